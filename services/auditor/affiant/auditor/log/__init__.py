"""The Merkle log: hashing, tiles, proofs and signed checkpoints. It knows no database and no event.

RFC 6962 section 2.1 for the tree, C2SP tlog-tiles for how its hashes are cut into tiles, C2SP tlog-checkpoint and
signed-note for checkpoints. Only the maker's side is here: whoever verifies should not run the writer's code.
"""
