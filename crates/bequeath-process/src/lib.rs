//! Starting, watching and reaping child processes.
