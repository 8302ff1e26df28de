//! Which KEK of a ring is in force, and which are asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A KEK with this byte, and how often it was asked for its check value; out of reach where it is 0.
struct Counted(LocalKek, u8, AtomicUsize);

impl Counted {
    fn of(byte: u8) -> Arc<Counted> {
        Arc::new(Counted(LocalKek::new([byte; 32]), byte, AtomicUsize::new(0)))
    }

    fn check(byte: u8) -> KekCheck {
        LocalKek::new([byte; 32]).check
    }
}

impl Kek for Counted {
    fn unwrap(&self, blob: &[u8]) -> Result<Dek, UnwrapError> {
        self.0.unwrap(blob)
    }

    fn check_value(&self) -> io::Result<KekCheck> {
        self.2.fetch_add(1, Ordering::Relaxed);
        if self.1 == 0 { Err(io::ErrorKind::TimedOut.into()) } else { self.0.check_value() }
    }
}

fn in_force(ring: &KekRing, named: Option<KekCheck>) -> Result<KekCheck, RingError> {
    ring.in_force(named).map(|kek| kek.check_value().expect("within reach"))
}

#[test]
fn the_named_kek_of_a_ring_is_in_force_and_without_a_name_the_previous_one() {
    let [one, two, other] = [1, 2, 3].map(Counted::check);
    let alone = KekRing::from(Counted::of(1));
    let both = KekRing::from(Counted::of(2)).with_previous(Counted::of(1));
    for (ring, named, expected) in [
        (&alone, None, Ok(one)),
        (&alone, Some(one), Ok(one)),
        (&alone, Some(two), Err(RingError::Missing { wanted: two })),
        (&both, None, Ok(one)),
        (&both, Some(one), Ok(one)),
        (&both, Some(two), Ok(two)),
        (&both, Some(other), Err(RingError::Missing { wanted: other })),
    ] {
        assert_eq!(in_force(ring, named), expected);
    }
    assert_eq!((alone.current(), alone.previous()), (Ok(one), Ok(None)));
    assert_eq!((both.current(), both.previous()), (Ok(two), Ok(Some(one))));
    assert_eq!(format!("{both:?}"), "KekRing { previous: true, .. }");
}

#[test]
fn without_a_name_no_kek_is_asked() {
    let (current, previous) = (Counted::of(0), Counted::of(0));
    let ring = KekRing::new(current.clone()).with_previous(previous.clone());
    assert!(ring.in_force(None).is_ok());
    let asked = [&current, &previous].map(|kek| kek.2.load(Ordering::Relaxed));
    assert_eq!(asked, [0, 0]);
}

#[test]
fn a_kek_out_of_reach_is_said_to_be_unless_the_wanted_one_was_found_before() {
    let timed_out = io::Error::from(io::ErrorKind::TimedOut).to_string();
    let unavailable = RingError::Unavailable(timed_out);
    let ring = KekRing::from(Counted::of(2)).with_previous(Counted::of(0));
    assert_eq!(in_force(&ring, Some(Counted::check(2))), Ok(Counted::check(2)));
    assert_eq!(in_force(&ring, Some(Counted::check(3))), Err(unavailable.clone()));
    assert_eq!(ring.previous(), Err(unavailable.clone()));
    let ring = KekRing::from(Counted::of(0)).with_previous(Counted::of(2));
    assert_eq!(in_force(&ring, Some(Counted::check(2))), Err(unavailable.clone()));
    assert_eq!(ring.current(), Err(unavailable));
}
