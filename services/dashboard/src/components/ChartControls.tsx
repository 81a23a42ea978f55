import { Button, Checkbox, SegmentedControl } from "@mantine/core";

import { MOST_SMOOTHING, type ChartView } from "../charts/view";
import classes from "./ChartControls.module.css";

interface Props {
  view: ChartView;
  onChange: (view: ChartView) => void;
}

/** How all charts of a page are drawn. */
export function ChartControls({ view, onChange }: Props) {
  return (
    <div className={classes.controls} role="toolbar" aria-label="Charts">
      {view.zoom && (
        <Button variant="subtle" size="compact-xs" onClick={() => onChange({ ...view, zoom: null })}>
          Whole range
        </Button>
      )}
      <SegmentedControl
        size="xs"
        aria-label="Horizontal axis"
        data={["step", "time"]}
        value={view.x}
        // A range of steps says nothing of a range of time.
        onChange={(x) => onChange({ ...view, x: x === "time" ? "time" : "step", zoom: null })}
      />
      <label className={classes.smoothing}>
        smoothing
        <input
          type="range"
          min={0}
          max={MOST_SMOOTHING}
          step={0.05}
          value={view.smoothing}
          onChange={(event) => onChange({ ...view, smoothing: Number(event.currentTarget.value) })}
        />
        <output>{view.smoothing.toFixed(2)}</output>
      </label>
      <Checkbox
        size="xs"
        label="log scale"
        checked={view.logScale}
        onChange={(event) => onChange({ ...view, logScale: event.currentTarget.checked })}
      />
    </div>
  );
}
