// Where the nodes of a graph lie: layered, left to right. The library comes when the first graph is shown.

export interface GraphNode {
  readonly id: string;
  readonly dependsOn: readonly string[];
}

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

export const NODE_WIDTH = 254;
export const NODE_HEIGHT = 58;
const MARGIN = 28;
const HEAVY = 8;

/** Places at most a few hundred nodes; more are folded into groups before. */
export async function layOut(nodes: readonly GraphNode[]): Promise<Layout> {
  const { Graph, layout } = await import("@dagrejs/dagre");
  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 40, marginx: MARGIN, marginy: MARGIN });
  const ranks = ranksOf(nodes);
  for (const node of nodes) graph.setNode(node.id, { width: NODE_WIDTH, height: NODE_HEIGHT });
  for (const node of nodes) {
    for (const dependency of node.dependsOn) {
      // Heavy edges stay short: a step lies right of the last that it waits for, not next to what waits for it.
      const weight = ranks.get(node.id) === ranks.get(dependency)! + 1 ? HEAVY : 1;
      if (graph.hasNode(dependency)) graph.setEdge(dependency, node.id, { weight });
    }
  }
  layout(graph);
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  return {
    width,
    height,
    nodes: nodes.map(({ id }) => {
      const { x, y } = graph.node(id) as { x: number; y: number };
      return { id, x: x - NODE_WIDTH / 2, y: y - NODE_HEIGHT / 2 };
    }),
    edges: graph.edges().map((edge) => {
      const { points } = graph.edge(edge) as { points: Point[] };
      return { from: edge.v, to: edge.w, path: smooth([exit(graph.node(edge.v)), ...points.slice(1, -1), entry(graph.node(edge.w))]) };
    }),
  };
}

interface Point {
  readonly x: number;
  readonly y: number;
}

/** How many edges the longest way from a beginning to each node has. */
function ranksOf(nodes: readonly GraphNode[]): ReadonlyMap<string, number> {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const ranks = new Map<string, number>();
  const visit = (node: GraphNode): number => {
    const known = ranks.get(node.id);
    if (known !== undefined) return known;
    const before = node.dependsOn.map((id) => byId.get(id)).filter((each) => each !== undefined);
    const rank = before.reduce((most, each) => Math.max(most, visit(each) + 1), 0);
    ranks.set(node.id, rank);
    return rank;
  };
  nodes.forEach(visit);
  return ranks;
}

const exit = (node: Point): Point => ({ x: node.x + NODE_WIDTH / 2, y: node.y });
const entry = (node: Point): Point => ({ x: node.x - NODE_WIDTH / 2, y: node.y });

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
