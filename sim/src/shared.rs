//! Choices that several tasks draw from.

use std::sync::{Arc, Mutex, PoisonError};

use crate::choices::Choices;

/// One [`Choices`] for all tasks of a runtime. Clones share it.
///
/// A `&mut Choices` cannot be held by several tasks at once, let alone over an await. Each borrows it for the
/// length of a call instead. The order in which tasks draw is that of their turns, which the seed of the
/// runtime decides: draw that one too.
#[derive(Clone, Debug)]
pub struct SharedChoices(Arc<Mutex<Choices>>);

impl SharedChoices {
    /// Shares these choices.
    pub fn new(choices: Choices) -> Self {
        Self(Arc::new(Mutex::new(choices)))
    }

    /// Draws. The closure must not call back into the same shared choices: it would wait for itself.
    pub fn with<T>(&self, draw: impl FnOnce(&mut Choices) -> T) -> T {
        // Each draw is complete in itself, so a panic between two of them harms nothing.
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the choices out at the end of a run, for their tape. What is drawn after that is calm.
    pub fn take(&self) -> Choices {
        self.with(|choices| std::mem::replace(choices, Choices::bytes(&[])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Site;

    const SITE: Site = Site::new("test.shared");

    #[test]
    fn clones_draw_from_one_tape_and_a_calm_one_is_left_behind() {
        let shared = SharedChoices::new(Choices::bytes(&[3, 4, 5]));
        let other = shared.clone();
        assert_eq!(shared.with(|choices| choices.draw(SITE, 10)), 3);
        assert_eq!(other.with(|choices| choices.draw(SITE, 10)), 4);
        let taken = shared.take();
        assert_eq!(taken.tape().0.iter().map(|draw| draw.value).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(other.with(|choices| choices.draw(SITE, 10)), 0);
    }
}
