// Queue.
import { Empty } from "../../parts/feedback";

export function QueuePage() {
  return <Empty title="Queue" />;
}
