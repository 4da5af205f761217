// Workflow.
import { Empty } from "../../parts/feedback";

export function WorkflowPage() {
  return <Empty title="Workflow" />;
}
