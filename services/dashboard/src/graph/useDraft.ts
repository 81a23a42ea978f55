import { useDebouncedCallback } from "@mantine/hooks";
import { useState } from "react";

const REST_MS = 200;

/**
 * A value that changes many times a second while a slider is dragged, and is told on when it rests: browsers allow a
 * page only some changes of its URL in a time.
 */
export function useDraft(value: number, tell: (value: number) => void): [number, (value: number) => void] {
  const [draft, setDraft] = useState<number | null>(null);
  const [told, setTold] = useState(value);
  if (told !== value) {
    setTold(value);
    setDraft(null);
  }
  const later = useDebouncedCallback(tell, REST_MS);
  return [
    draft ?? value,
    (next) => {
      setDraft(next);
      later(next);
    },
  ];
}
