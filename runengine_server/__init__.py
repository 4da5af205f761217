"""The RunEngine server: runs workflows and rebuilds only what a change request affects."""
