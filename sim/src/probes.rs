//! How often each interesting place was reached.

/// Counts over a fixed table of named places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probes {
    table: &'static [&'static str],
    counts: Vec<u64>,
}

impl Probes {
    /// All counts 0.
    pub fn new(table: &'static [&'static str]) -> Self {
        Self { table, counts: vec![0; table.len()] }
    }

    /// Counts one visit of the place with this index in the table.
    ///
    /// # Panics
    /// If the table has no such index.
    #[inline]
    pub fn hit(&mut self, index: usize) {
        self.counts[index] += 1;
    }

    /// Adds the counts of another run over the same table.
    ///
    /// # Panics
    /// If the tables differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.table, other.table, "only counts over the same table can be added");
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// Each name with its count, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.table.iter().copied().zip(self.counts.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_by_name() {
        let mut one = Probes::new(&["left", "right"]);
        let mut two = one.clone();
        one.hit(0);
        two.hit(0);
        two.hit(1);
        one.merge(&two);
        assert_eq!(one.iter().collect::<Vec<_>>(), [("left", 2), ("right", 1)]);
    }
}
