//! A cluster of nodes that agree on one log by Raft.

#![allow(dead_code, reason = "the world that runs a cluster is not there yet")]

pub(crate) mod store;
