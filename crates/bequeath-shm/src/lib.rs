//! The session: memory, blocks and counted objects shared by the processes of one tree.
