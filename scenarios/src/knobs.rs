//! The fault knobs: what the worlds do to a node on purpose, and the probes that say that they did. A knob that delivers
//! nothing is a hole in every sweep, and reports name it.

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// What it does.
    pub name: &'static str,
    /// Probes of which one is hit where it has done it. A star stands for one part of a name.
    probes: &'static [&'static str],
}

impl Knob {
    /// Whether a probe says that it has done what it does.
    pub fn is_seen_by(&self, probe: &str) -> bool {
        self.probes.iter().any(|pattern| matches(pattern, probe))
    }

    /// Whether a sweep that has probes for it has hit none of them. `hits` gives those of a probe, where there is one.
    pub fn is_dead(&self, hits: impl Fn(&str) -> Option<u64>) -> bool {
        let names = crate::probes::TABLE.iter().filter(|name| self.is_seen_by(name));
        let mut known = names.filter_map(|name| hits(name)).peekable();
        known.peek().is_some() && known.all(|hits| hits == 0)
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let (mut parts, mut own) = (name.split('/'), pattern.split('/'));
    loop {
        match (own.next(), parts.next()) {
            (None, None) => return true,
            (Some(own), Some(part)) if own == "*" || own == part => {}
            _ => return false,
        }
    }
}

/// All of them: those of one node, then those of a cluster.
pub const KNOBS: [Knob; 33] = [
    Knob { name: "process crash", probes: &["crash/*/process-crash"] },
    Knob { name: "power loss", probes: &["crash/*/power-loss"] },
    Knob { name: "power loss in a start", probes: &["crash/*/power-loss-in-start"] },
    Knob { name: "power loss in a second start", probes: &["crash/*/power-loss-in-second-start"] },
    Knob { name: "process crash, then power loss", probes: &["crash/*/process-crash-then-power-loss"] },
    Knob { name: "crash in a restore", probes: &["crash/in-restore"] },
    Knob {
        name: "crash while the database is created",
        probes: &[
            "crash/database-creation",
            "crash/before-database-is-named",
            "crash/before-database-name-is-durable",
        ],
    },
    Knob { name: "pending operation dropped", probes: &["fate/dropped"] },
    Knob { name: "pending write torn", probes: &["fate/torn"] },
    Knob { name: "disk error EIO", probes: &["fault/eio"] },
    Knob { name: "disk error ENOSPC", probes: &["fault/enospc"] },
    Knob { name: "failed sync", probes: &["fault/failed-sync"] },
    Knob { name: "error in a start", probes: &["fault/in-start"] },
    Knob { name: "KEK out of reach", probes: &["fault/kek-out-of-reach"] },
    Knob { name: "read error of the registry", probes: &["fault/registry-read"] },
    Knob { name: "database rolled back", probes: &["redelivery/database-rolled-back"] },
    Knob { name: "member: process crash", probes: &["cluster/process-crash"] },
    Knob { name: "member: power loss", probes: &["cluster/power-loss"] },
    Knob { name: "member: crash at a disk call", probes: &["cluster/crash-at-a-disk-call"] },
    Knob { name: "member: crash in a start", probes: &["cluster/crash-in-start"] },
    Knob { name: "member: crash in a snapshot install", probes: &["cluster/crash-in-snapshot-install"] },
    Knob { name: "whole cluster: power loss", probes: &["cluster/whole-cluster-power-loss"] },
    Knob { name: "member: pending operation dropped", probes: &["cluster/fate/dropped"] },
    Knob { name: "member: pending write torn", probes: &["cluster/fate/torn"] },
    Knob { name: "member: disk error", probes: &["cluster/fault/disk-error"] },
    Knob { name: "member: slow disk", probes: &["cluster/fault/slow-disk"] },
    Knob {
        name: "member: disk or sidecar lost",
        probes: &[
            "cluster/fault/sidecar-lost",
            "cluster/fault/sidecar-rolled-back",
            "cluster/fault/disk-lost",
        ],
    },
    Knob { name: "member: KEK changed", probes: &["cluster/fault/kek-changed"] },
    Knob { name: "network: link cut", probes: &["cluster/fault/one-way-cut", "cluster/message/cut"] },
    Knob { name: "network: partition", probes: &["cluster/fault/partition"] },
    Knob { name: "network: message dropped", probes: &["cluster/message/dropped"] },
    Knob { name: "network: message duplicated", probes: &["cluster/message/duplicated"] },
    Knob {
        name: "network: message delayed",
        probes: &["cluster/message/delayed", "cluster/message/overtaken"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::TABLE;

    #[test]
    fn every_pattern_is_about_a_probe_and_every_fault_belongs_to_a_knob() {
        for knob in KNOBS {
            for pattern in knob.probes {
                assert!(TABLE.iter().any(|name| matches(pattern, name)), "{}: {pattern}", knob.name);
            }
        }
        let of_faults = ["fault/", "fate/", "cluster/fault/", "cluster/fate/", "cluster/message/"];
        for name in TABLE.iter().filter(|name| of_faults.iter().any(|faults| name.starts_with(faults))) {
            assert!(KNOBS.iter().any(|knob| knob.is_seen_by(name)), "{name}");
        }
    }

    #[test]
    fn a_knob_is_dead_where_it_has_probes_and_none_was_hit() {
        let knob = KNOBS.iter().find(|knob| knob.name == "member: disk or sidecar lost").unwrap();
        assert!(knob.is_dead(|_| Some(0)));
        assert!(!knob.is_dead(|name| Some(u64::from(name.ends_with("disk-lost")))));
        assert!(!knob.is_dead(|_| None), "a scenario without its probes does not have it");
    }
}
