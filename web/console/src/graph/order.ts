// What follows from the edges of a graph alone: ranks, and which edges say nothing new.

export interface GraphNode {
  readonly id: string;
  readonly dependsOn: readonly string[];
}

/** How many edges the longest way from a beginning to each node has. */
export function ranksOf(nodes: readonly GraphNode[]): ReadonlyMap<string, number> {
  const ranks = new Map<string, number>();
  for (const node of inOrder(nodes)) {
    ranks.set(node.id, node.dependsOn.reduce((most, id) => Math.max(most, (ranks.get(id) ?? -1) + 1), 0));
  }
  return ranks;
}

/** The nodes without edges that others imply: after A → B → C, an edge A → C tells nothing of the order. */
export function withoutImplied<Node extends GraphNode>(nodes: readonly Node[]): readonly Node[] {
  const before = new Map<string, Set<string>>();
  const needed = new Map<string, readonly string[]>();
  for (const { id, dependsOn } of inOrder(nodes)) {
    const known = dependsOn.filter((each) => before.has(each));
    needed.set(id, known.filter((each) => !known.some((other) => before.get(other)!.has(each))));
    before.set(id, new Set(known.flatMap((each) => [each, ...before.get(each)!])));
  }
  return nodes.map((node) => ({ ...node, dependsOn: needed.get(node.id)! }));
}

/** Each node after those that it depends on. */
function inOrder<Node extends GraphNode>(nodes: readonly Node[]): readonly Node[] {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const done = new Set<string>();
  const order: Node[] = [];
  const visit = (node: Node) => {
    if (done.has(node.id)) return;
    done.add(node.id);
    for (const id of node.dependsOn) if (byId.has(id)) visit(byId.get(id)!);
    order.push(node);
  };
  nodes.forEach(visit);
  return order;
}
