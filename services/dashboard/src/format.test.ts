import { expect, test } from "vitest";

import { ago, bytes, decimal, duration, percent, short, signed, token } from "./format";

test.each([
  [short(134_515_008), "135M"],
  [short(2304), "2.3k"],
  [short(0.25), "0.25"],
  [decimal(0.41239), "0.412"],
  [decimal(0.00001), "1.0e-5"],
  [decimal(null), "–"],
  [decimal(NaN), "–"],
  [percent(0.9213), "92.1%"],
  [percent(null), "–"],
  [signed(-0.5), "−0.500"],
  [bytes(1023), "1023 B"],
  [bytes(5000), "4.9 KiB"],
  [duration(59.6), "1m 00s"],
  [duration(3725), "1h 02m"],
  [duration(null), "–"],
  [token(" to"), "␣to"],
  [token("\n"), "⏎"],
  [token(""), "∅"],
  [ago("2026-01-01T00:00:00Z", Date.parse("2026-01-01T02:30:00Z")), "2h ago"],
])("%s", (text, expected) => expect(text).toBe(expected));
