/** What the page is told (`landscape.viewer.page_data` writes it), and what its scripts make of it. */

/** One quantity on a plane's grid. Lists are flat: index = i * beta.length + j. */
export interface Metric {
  name: string;
  /** "nats", "fraction" (shown as per cent), another one of the caller's, or "". */
  unit: string;
  /** null where there is none. */
  values: (number | null)[];
  /** Indices of infinite values. */
  diverged: number[];
  stderr: (number | null)[] | null;
  /** Stated interpolation error, and that of the logarithm; null while unknown. */
  error: number | null;
  log_error: number | null;
  /** A digit a point, "1" where it was computed; null where the plane's holds. */
  computed: string | null;
  /** Whether it is the difference of two. */
  difference?: boolean;
}

export interface Split {
  name: string;
  examples: number;
  metrics: Metric[];
}

export interface Path {
  alpha: number[];
  beta: number[];
  labels: string[];
  /** Name and number of networks of each training. */
  parts: [string, number][];
}

export interface Plane {
  name: string;
  notes: string[];
  axes: string[];
  computed: string;
  path: Path | null;
  splits: Split[];
}

/** A cell of the table: a number, an estimate with its interval, or a text. */
export interface Cell {
  name: string;
  value?: number;
  low?: number;
  high?: number;
  text?: string;
  /** "fraction" is shown as per cent. */
  unit?: string;
}

/** A grid, and nothing else of a surface. */
export interface Grid {
  alpha: number[];
  beta: number[];
}

export interface Surface extends Grid {
  label: string;
  dim: 1 | 2;
  complete: boolean;
  center: [number, number] | null;
  planes: Plane[];
  metrics: Cell[];
  facts: [string, string][];
}

/** Which of a surface's values are shown. */
export interface Wanted {
  plane: string;
  split: string;
  metric: string;
}

/** What a surface shows. */
export interface Choice {
  surface: Surface;
  plane: Plane;
  split: Split;
  metric: Metric;
  /** NaN = not known, Infinity = diverged. */
  values: Float64Array;
  /** The reference's choice, where this is a difference. */
  base?: Choice;
}

/** Why a surface shows nothing. */
export interface Missing {
  surface: Surface;
  plane: Plane;
  split?: Split;
  missing: string;
}

/** Bounds of finite values, infinite where there are none. */
export interface Extent {
  low: number;
  high: number;
  /** The lowest above zero. */
  positive: number;
}

/** From where to where values are shown, and how. */
export interface Limits {
  low: number;
  high: number;
  log: boolean;
  diverging?: boolean;
}

/** Sides of the box that a surface is drawn in. */
export interface Sides {
  x: number;
  y: number;
  z: number;
}

export type Point = [number, number, number];

/** Corners by number, each triangle's across the three lists. */
export interface Triangles {
  i: number[];
  j: number[];
  k: number[];
}
