//! The KEK file's checks on both sides of each boundary, and blobs that must not open.

mod ring;

use std::collections::VecDeque;
use std::fs;

use super::*;

const KEY: [u8; KEY_LEN] = [0x5a; KEY_LEN];

/// Fills every buffer with one byte.
struct Fixed(u8);

impl Entropy for Fixed {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(self.0);
        Ok(())
    }
}

struct Dry;

impl Entropy for Dry {
    fn fill(&self, _buf: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Gives what it is told to, one read after the other, at most a byte each.
struct Reads(VecDeque<io::Result<u8>>);

impl Read for Reads {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(read) = self.0.pop_front() else { return Ok(0) };
        buf[0] = read?;
        Ok(1)
    }
}

#[test]
fn a_read_goes_on_after_an_interruption_and_ends_at_any_other_error() {
    let read = |reads: Vec<io::Result<u8>>| {
        let mut buf = [0; 3];
        read_up_to(Reads(reads.into()), &mut buf).map(|len| buf[..len].to_vec()).map_err(|error| error.kind())
    };
    let interrupted = || Err(io::ErrorKind::Interrupted.into());
    assert_eq!(read(vec![interrupted(), Ok(1), interrupted(), Ok(2)]), Ok(vec![1, 2]));
    assert_eq!(read(vec![Ok(1), Ok(2), Ok(3), Ok(4)]), Ok(vec![1, 2, 3]), "no more than there is room for");
    let failed = io::ErrorKind::PermissionDenied;
    assert_eq!(read(vec![Ok(1), Err(failed.into()), Ok(2)]), Err(failed));
}

fn dek() -> Dek {
    Dek::new([7; KEY_LEN])
}

/// A wrapped key under `KEY`.
fn blob() -> [u8; BLOB_LEN] {
    LocalKek::new(KEY).wrap(&dek(), &Fixed(1)).expect("this entropy does not fail")
}

#[track_caller]
fn check_refused(kek: &dyn Kek, blob: &[u8], fault: BlobFault) {
    match kek.unwrap(blob) {
        Err(UnwrapError::Blob(got)) => assert_eq!(got, fault),
        other => panic!("instead of {fault:?}: {other:?}"),
    }
}

#[test]
fn what_was_wrapped_opens_to_the_same_key() {
    assert_eq!(LocalKek::new(KEY).unwrap(&blob()).expect("it was wrapped by this KEK"), dek());
}

#[test]
fn a_blob_begins_with_the_nonce_and_hides_the_key() {
    let blob = blob();
    assert_eq!(blob[..NONCE_LEN], [1; NONCE_LEN]);
    assert!(!blob.windows(4).any(|window| window == [7; 4]));
}

#[test]
fn a_failing_entropy_wraps_nothing() {
    let error = LocalKek::new(KEY).wrap(&dek(), &Dry).expect_err("there was no nonce");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn every_length_but_one_is_refused_before_decryption() {
    let kek = LocalKek::new(KEY);
    let long = [blob().as_slice(), &[0; 8]].concat();
    for len in (0..long.len()).filter(|len| *len != BLOB_LEN) {
        check_refused(&kek, &long[..len], BlobFault::Length(len));
    }
}

#[test]
fn a_change_of_any_bit_is_seen() {
    let kek = LocalKek::new(KEY);
    for bit in 0..BLOB_LEN * 8 {
        let mut blob = blob();
        blob[bit / 8] ^= 1 << (bit % 8);
        check_refused(&kek, &blob, BlobFault::Integrity);
    }
}

#[test]
fn another_kek_does_not_open_the_blob() {
    check_refused(&LocalKek::new([0x5b; KEY_LEN]), &blob(), BlobFault::Integrity);
}

#[test]
fn the_check_value_is_that_of_the_key_and_of_nothing_else() {
    let check = |bytes| LocalKek::new(bytes).check_value().expect("it never fails");
    assert_eq!(check(KEY), check(KEY));
    for bit in 0..KEY_LEN * 8 {
        let mut other = KEY;
        other[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(check(other), check(KEY), "bit {bit}");
    }
    // By another SHA-256. Promises of earlier builds are held against it, so it must not change.
    assert_eq!(check(KEY), KekCheck::from_u64(0x6fc1_f8b4_b5bf_bd0e));
}

#[test]
fn a_check_value_survives_its_number_and_shows_in_hex() {
    for value in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
        assert_eq!(KekCheck::from_u64(value).to_u64(), value);
    }
    let check = KekCheck([1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
    assert_eq!(check, KekCheck::from_u64(0x0123_4567_89ab_cdef));
    assert_eq!(format!("{check:?}"), "KekCheck(0123456789abcdef)");
}

mod file {
    use std::os::unix::fs::PermissionsExt;

    use nix::sys::stat::Mode;

    use super::*;

    /// A directory with one file `kek` in it.
    struct Place {
        _dir: tempfile::TempDir,
        path: String,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("kek").to_str().expect("a UTF-8 path").to_owned();
        Place { _dir: dir, path }
    }

    fn kek_file(bytes: &[u8], mode: u32) -> Place {
        let place = place();
        fs::write(&place.path, bytes).expect("a writable directory");
        fs::set_permissions(&place.path, fs::Permissions::from_mode(mode)).expect("our own file");
        place
    }

    #[track_caller]
    fn load_error(place: &Place) -> KekError {
        FileKek::load(&place.path).expect_err("this file must be refused")
    }

    #[test]
    fn a_file_that_only_its_owner_reads_is_taken() {
        for mode in [0o400, 0o600, 0o700] {
            let place = kek_file(&KEY, mode);
            let kek = FileKek::load(&place.path).expect("a good file");
            assert_eq!(kek.unwrap(&blob()).expect("wrapped under these bytes"), dek());
            let again = kek.wrap(&dek(), &Fixed(1)).expect("this entropy does not fail");
            assert_eq!(again, blob());
            let check = LocalKek::new(KEY).check_value().expect("it never fails");
            assert_eq!(kek.check_value().expect("it never fails"), check);
        }
    }

    #[test]
    fn any_access_of_others_is_refused() {
        for bit in 0..6 {
            let mode = 0o600 | (1 << bit);
            let place = kek_file(&KEY, mode);
            let path = place.path.clone();
            assert_eq!(load_error(&place), KekError::InsecureMode { path, mode });
        }
        let place = kek_file(&KEY, 0o644);
        let path = place.path.clone();
        assert_eq!(load_error(&place), KekError::InsecureMode { path, mode: 0o644 });
    }

    #[test]
    fn the_mode_is_seen_before_the_size() {
        let error = load_error(&kek_file(&[], 0o644));
        assert!(matches!(error, KekError::InsecureMode { .. }), "{error:?}");
    }

    #[test]
    fn every_size_but_one_is_refused_and_a_long_file_is_not_read_to_its_end() {
        for (size, got) in [(0, 0), (31, 31), (33, 33), (34, 33), (100_000, 33)] {
            let place = kek_file(&vec![1; size], 0o600);
            let path = place.path.clone();
            assert_eq!(load_error(&place), KekError::Size { path, got });
        }
    }

    #[test]
    fn a_missing_file_does_not_open() {
        match load_error(&place()) {
            KekError::Open(fault) => assert_eq!(fault.kind, io::ErrorKind::NotFound),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_directory_is_no_kek_file() {
        let place = place();
        fs::create_dir(&place.path).expect("a writable directory");
        let path = place.path.clone();
        assert_eq!(load_error(&place), KekError::NotRegular { path });
    }

    #[test]
    fn a_pipe_without_a_writer_is_refused_without_waiting() {
        let place = place();
        nix::unistd::mkfifo(place.path.as_str(), Mode::S_IRUSR | Mode::S_IWUSR)
            .expect("a writable directory");
        let path = place.path.clone();
        assert_eq!(load_error(&place), KekError::NotRegular { path });
    }

    #[test]
    fn debug_and_name_show_the_path_and_no_key_bytes() {
        let place = kek_file(&KEY, 0o600);
        let kek = FileKek::load(&place.path).expect("a good file");
        assert_eq!(kek.name(), format!("file:{}", place.path));
        assert_eq!(format!("{kek:?}"), format!("FileKek {{ path: {:?}, .. }}", place.path));
        assert_eq!(format!("{:?}", LocalKek::new(KEY)), "LocalKek(..)");
    }
}
