"""What a workflow, run, step, cache entry and event are: values and rules, no I/O."""
