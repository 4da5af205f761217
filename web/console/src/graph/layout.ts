// Where the nodes of a graph lie: layered, left to right. The library comes when the first graph is shown.
import { ranksOf, withoutImplied, type GraphNode } from "./order";

export type { GraphNode } from "./order";

export interface Placed {
  readonly id: string;
  readonly x: number;
  readonly y: number;
}

export interface PlacedEdge {
  readonly from: string;
  readonly to: string;
  readonly path: string;
}

export interface Layout {
  readonly width: number;
  readonly height: number;
  readonly nodes: readonly Placed[];
  readonly edges: readonly PlacedEdge[];
}

interface Point {
  readonly x: number;
  readonly y: number;
}

export const NODE_WIDTH = 254;
export const NODE_HEIGHT = 58;
const MARGIN = 28;
const GAP = 18;
const RANK_GAP = 40;
const HEAVY = 8;

/** The library takes a second for that many layers that edges cross, all in all; twice as many take five. */
const CROSSED_MAX = 600;

/** Places at most a few hundred nodes; more are folded into groups before. A graph too dense to untangle loses edges
 * that others imply, and if that is not enough, its nodes stand in plain columns. */
export async function layOut(nodes: readonly GraphNode[]): Promise<Layout> {
  const ranks = ranksOf(nodes);
  if (crossed(nodes, ranks) <= CROSSED_MAX) return untangled(nodes, ranks);
  const sparse = withoutImplied(nodes);
  return crossed(sparse, ranks) <= CROSSED_MAX ? untangled(sparse, ranks) : inColumns(sparse, ranks);
}

type Ranks = ReadonlyMap<string, number>;

function crossed(nodes: readonly GraphNode[], ranks: Ranks): number {
  return nodes.reduce(
    (sum, { id, dependsOn }) => sum + dependsOn.reduce((part, each) => part + ranks.get(id)! - (ranks.get(each) ?? 0), 0),
    0,
  );
}

async function untangled(nodes: readonly GraphNode[], ranks: Ranks): Promise<Layout> {
  const { Graph, layout } = await import("@dagrejs/dagre");
  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: GAP, ranksep: RANK_GAP, marginx: MARGIN, marginy: MARGIN });
  for (const node of nodes) graph.setNode(node.id, { width: NODE_WIDTH, height: NODE_HEIGHT });
  for (const { id, dependsOn } of nodes) {
    for (const dependency of dependsOn.filter((each) => graph.hasNode(each))) {
      // Heavy edges stay short: a step lies right of the last that it waits for, not next to what waits for it.
      graph.setEdge(dependency, id, { weight: ranks.get(id) === ranks.get(dependency)! + 1 ? HEAVY : 1 });
    }
  }
  layout(graph);
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  const middles = new Map(nodes.map(({ id }) => [id, graph.node(id) as Point]));
  const edges = graph.edges().map((edge) => {
    const { points } = graph.edge(edge) as { points: Point[] };
    return placedEdge(edge.v, edge.w, middles, points.slice(1, -1));
  });
  return { width, height, nodes: placedNodes(middles), edges };
}

function inColumns(nodes: readonly GraphNode[], ranks: Ranks): Layout {
  const columns = Map.groupBy(nodes, ({ id }) => ranks.get(id)!);
  const tallest = Math.max(...[...columns.values()].map((column) => column.length));
  const height = 2 * MARGIN + tallest * (NODE_HEIGHT + GAP);
  const middles = new Map<string, Point>();
  for (const [rank, column] of columns) {
    const top = (height - column.length * (NODE_HEIGHT + GAP)) / 2;
    for (const [index, { id }] of column.entries()) {
      const x = MARGIN + NODE_WIDTH / 2 + rank * (NODE_WIDTH + 4 * RANK_GAP);
      middles.set(id, { x, y: top + (index + 0.5) * (NODE_HEIGHT + GAP) });
    }
  }
  const edges = nodes.flatMap(({ id, dependsOn }) => dependsOn.map((each) => placedEdge(each, id, middles, [])));
  const width = 2 * MARGIN + columns.size * (NODE_WIDTH + 4 * RANK_GAP) - 4 * RANK_GAP;
  return { width, height, nodes: placedNodes(middles), edges };
}

function placedNodes(middles: ReadonlyMap<string, Point>): readonly Placed[] {
  return [...middles].map(([id, { x, y }]) => ({ id, x: x - NODE_WIDTH / 2, y: y - NODE_HEIGHT / 2 }));
}

function placedEdge(from: string, to: string, middles: ReadonlyMap<string, Point>, between: readonly Point[]): PlacedEdge {
  const [begin, end] = [middles.get(from)!, middles.get(to)!];
  const first = { x: begin.x + NODE_WIDTH / 2, y: begin.y };
  const last = { x: end.x - NODE_WIDTH / 2, y: end.y };
  return { from, to, path: smooth([first, ...between, last]) };
}

/** A line through the points that leaves and arrives level. */
function smooth(points: readonly Point[]): string {
  const [first, ...rest] = points as [Point, ...Point[]];
  let from = first;
  const parts = [`M${round(from.x)} ${round(from.y)}`];
  for (const to of rest) {
    const middle = round((from.x + to.x) / 2);
    parts.push(`C${middle} ${round(from.y)} ${middle} ${round(to.y)} ${round(to.x)} ${round(to.y)}`);
    from = to;
  }
  return parts.join("");
}

const round = (value: number): number => Math.round(value * 10) / 10;
