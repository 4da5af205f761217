"""Which steps a run executes, reuses or cannot know yet: pure functions."""
