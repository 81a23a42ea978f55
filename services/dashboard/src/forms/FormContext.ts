import { createContext, useContext } from "react";

export interface FormState {
  /** What to show at a place, by JSON pointer into the request. */
  errorAt: (pointer: string) => string | undefined;
  /** Whether something is wrong at the place or inside it. */
  errorWithin: (pointer: string) => boolean;
  /** The reader has been there: from now on say what is wrong. */
  touch: (pointer: string) => void;
  /** Names that the lab knows for a field of this name. */
  suggestions: (field: string) => readonly string[];
}

export const FormContext = createContext<FormState | null>(null);

export function useForm(): FormState {
  const form = useContext(FormContext);
  if (!form) throw new Error("useForm needs a FormContext above it");
  return form;
}
