"""The suite's own feature spaces. Each file declares at least one `SpaceInfo` and imports no torch, at module level.

`features.spaces` reads every file of this folder; no list names them.
"""
