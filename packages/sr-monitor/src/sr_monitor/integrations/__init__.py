"""The guard in other people's trainers; each module needs that trainer's library and is imported by name."""
