"""Configuration: groups to checked objects, and the keys that name runs.

Nothing is imported here: `paths` and `numbers` serve the command line before torch is needed.
"""
