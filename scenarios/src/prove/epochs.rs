//! Epochs of a node, as far as its later behaviour depends on them.
//!
//! A node claims epochs without end, so states that differ in their numbers alone would never stop being new. Under each
//! key there are three: the one in the sidecar, the one in the database's local table, and that of the node's row. A start
//! asks whether the sidecar's is below the local one; a claim takes one more than the highest of the three, if there is one
//! more. So what counts is how the first two compare, whether the higher of them is above the row, and whether it
//! is the last one. The row itself is in a content as it is: it is the log's.
//!
//! How far above stops counting at once, and a state that is some claims from the last epoch is taken for one that has epochs
//! without end. That there comes an end is a state of its own, which a log leads to whose rows are close to it.

use std::cmp::Ordering;

/// What counts of a node's epochs under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    /// The sidecar's epoch against the local table's.
    sidecar: Ordering,
    /// Whether the higher of them is above the row's.
    above_row: bool,
    /// Whether the higher of them is the last one.
    spent: bool,
}

impl Shape {
    /// The shape of three numbers: in the sidecar, in the local table, in the row.
    pub(super) fn of(sidecar: u16, local: u16, row: u16) -> Shape {
        let highest = sidecar.max(local);
        Shape { sidecar: sidecar.cmp(&local), above_row: highest > row, spent: highest == u16::MAX }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};
    use sim::{Disk, Fault, Lies, Profile};

    use super::super::life::{Content, Files};
    use super::*;
    use crate::form::{Form, Row};
    use crate::prove::script;
    use crate::seam::SimFiles;
    use crate::subject::{Claimed, OWN_NODE, Subject, Surroundings};
    use crate::world::look::Lookout;
    use crate::world::node::blank_disk;
    use applier::Purpose;

    /// What is done to a node.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// It claims, and dies of it at the call of this number, or does not where it makes fewer.
        Claim(u64),
        /// Its row rises to the highest epoch that it has, as when its claim is applied.
        Applied,
        /// Its row rises above that, as when somebody else registers it.
        Raised,
        /// The power fails.
        PowerLoss,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..40u64).prop_map(Step::Claim),
            Just(Step::Applied),
            Just(Step::Raised),
            Just(Step::PowerLoss)
        ]
    }

    /// The real applier on a simulated disk, after a bootstrap.
    struct Node {
        disk: Disk,
        lookout: Lookout,
        index: u64,
    }

    /// What a start comes to, and what the node is then.
    type Seen = (Result<(), String>, Option<Content>);

    impl Node {
        /// Whose row is at this epoch.
        fn new(row: u16) -> Node {
            let disk = blank_disk(Profile::Posix, Lies::NONE);
            let mut node = Node { disk, lookout: Lookout::new(), index: 0 };
            let (_, log) = script::named(Subject::Hardened.rules()).swap_remove(0);
            node.apply(&log[0]);
            node.apply(&Form::Registration(Row { dek: 1, node: OWN_NODE, epoch: row }));
            node
        }

        fn start(&mut self) -> Result<Box<dyn crate::subject::Life>, String> {
            let world = Surroundings {
                node: OWN_NODE,
                files: SimFiles::new(self.disk.mount()),
                kek: std::sync::Arc::clone(self.lookout.kek()),
                next_kek: None,
                reads: std::sync::Arc::default(),
                unix_seconds: 1,
                keyring: true,
                past: std::sync::Arc::default(),
            };
            Subject::Hardened.start(&world).map_err(|error| error.to_string())
        }

        fn apply(&mut self, form: &Form) {
            let payload = self.lookout.encode(form).expect("an entry for the applier");
            let mut life = self.start().expect("a sound disk");
            self.index += 1;
            assert!(life.deliver(self.index, &payload).advances());
        }

        /// The three numbers under key 1.
        fn epochs(&mut self) -> (u16, u16, u16) {
            let life = self.start().expect("a sound disk");
            let held = life.held().sidecar.expect("bootstrapped");
            let sidecar =
                held.keys.iter().find(|(id, _)| id.get() == 1).expect("bootstrapped").1.local_epoch.0;
            let local =
                life.local().epochs.iter().find(|(id, _)| id.get() == 1).map_or(0, |(_, epoch)| epoch.0);
            let rows = life.database().expect("a sound disk").registry.rows;
            let row = rows.iter().find(|(key, row)| key.dek_id == 1 && row.full_node_id == OWN_NODE);
            (sidecar, local, row.map_or(0, |(_, row)| row.last_seen))
        }

        fn step(&mut self, step: Step) -> (Seen, bool) {
            let mut spent = false;
            match step {
                Step::Claim(call) => {
                    let mut life = self.start().expect("a sound disk");
                    self.disk.arm(Fault::DieAtMutation(self.disk.mutations() + call));
                    let claimed = life.claim(1, Purpose::Storage);
                    spent = matches!(claimed, Claimed::No(_));
                    drop(life);
                    self.disk.process_crash();
                }
                Step::Applied | Step::Raised => {
                    let (sidecar, local, row) = self.epochs();
                    let above = u16::from(matches!(step, Step::Raised));
                    let epoch = sidecar.max(local).max(row).saturating_add(above);
                    self.apply(&Form::Registration(Row { dek: 1, node: OWN_NODE, epoch }));
                }
                Step::PowerLoss => drop(self.disk.power_loss(&mut sim::Choices::bytes(&[]))),
            }
            (self.seen(), spent)
        }

        fn seen(&mut self) -> Seen {
            let files = Files::on(&self.disk);
            let life = match self.start() {
                Ok(life) => life,
                Err(error) => return (Err(error), None),
            };
            let look = self.lookout.look(life.as_ref(), &self.disk).expect("a sound disk");
            let mut content = files.with(&look, 0);
            // Rows rise with the claims, and are the log's.
            content.forget_rows();
            (Ok(()), Some(content))
        }
    }

    #[test]
    fn what_counts_is_order_sign_and_the_end() {
        assert_eq!(Shape::of(5, 5, 1), Shape::of(900, 900, 2));
        assert_ne!(Shape::of(5, 4, 1), Shape::of(5, 5, 1));
        assert_ne!(Shape::of(3, 3, 2), Shape::of(3, 3, 3));
        assert_ne!(Shape::of(u16::MAX, u16::MAX, 1), Shape::of(u16::MAX - 1, u16::MAX - 1, 1));
        let shapes: BTreeSet<Shape> = (0..9).map(|at| Shape::of(at, at, 4)).collect();
        assert_eq!(shapes.len(), 2);
    }

    proptest! {
        #![proptest_config(Config {
            cases: 24, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default()
        })]

        /// Two nodes that are one state to a closure, and differ in how often they have claimed, stay one state and are
        /// answered alike, whatever is done to both.
        #[test]
        fn nodes_of_one_shape_behave_alike(
            claims in (1..6_usize, 1..6_usize),
            // From the last but one on every claim leads to the last one, whoever makes it.
            row in prop::sample::select(vec![0, 7, u16::MAX - 1, u16::MAX]),
            steps in prop::collection::vec(step(), 1..8),
        ) {
            let mut nodes = [Node::new(row), Node::new(row)];
            for (node, claims) in nodes.iter_mut().zip([claims.0, claims.1]) {
                for _ in 0..claims {
                    let (seen, _) = node.step(Step::Claim(u64::MAX >> 1));
                    prop_assert!(seen.0.is_ok());
                }
            }
            prop_assert_eq!(nodes[0].seen(), nodes[1].seen());
            for step in steps {
                let [one, other] = &mut nodes;
                prop_assert_eq!(one.step(step), other.step(step), "{:?}", step);
            }
        }
    }
}
