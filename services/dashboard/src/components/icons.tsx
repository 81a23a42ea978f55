/** The few icons there are, drawn here: 16 units, stroked in the colour of the text. */
import type { ReactNode } from "react";

function Icon({ children }: { children: ReactNode }) {
  return (
    <svg width="16" height="16" viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.4"
      strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      {children}
    </svg>
  );
}

export const Sun = () => (
  <Icon>
    <circle cx="8" cy="8" r="3" />
    <path d="M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3.05 3.050l1.060 1.060M11.890 11.890l1.060 1.060M12.95 3.050l-1.060 1.060M4.110 11.890l-1.060 1.060" />
  </Icon>
);
export const Moon = () => (
  <Icon>
    <path d="M13.5 9.800A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.300Z" />
  </Icon>
);
export const Download = () => (
  <Icon>
    <path d="M8 2v8M4.8 7 8 10.2 11.2 7M2.5 13.5h11" />
  </Icon>
);
export const Close = () => (
  <Icon>
    <path d="m4 4 8 8M12 4l-8 8" />
  </Icon>
);
export const Fit = () => (
  <Icon>
    <path d="M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10" />
  </Icon>
);
export const Plus = () => (
  <Icon>
    <path d="M8 3v10M3 8h10" />
  </Icon>
);
export const Minus = () => (
  <Icon>
    <path d="M3 8h10" />
  </Icon>
);
export const Logo = () => (
  <svg width="22" height="22" viewBox="0 0 32 32" fill="none" stroke="var(--thread)" strokeWidth="2.4" strokeLinecap="round" aria-hidden="true">
    <circle cx="14" cy="15" r="10.5" />
    <path d="M5 11.5c6-3.5 13-2.5 18.5 1.5M4 17.5c6-4 14-3 19.5 1.5M7.5 23c5-3.5 10-3 13.5-.5M17 25.200c4 2 8 2.8 12 2.3" />
  </svg>
);
