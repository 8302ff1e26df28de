//! Where the applier meets the simulated world: its ports, and redb's, on the simulated disk.

pub mod gated;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use applier::RaftIndex;
use applier::kek::LocalKek;
use applier::ports::{Clock, Files, Kek, KekCheck, UnwrapError, WriteFile};
use applier::registry::{
    Change, CommitError, HostPart, Local, LocalChange, RedbRegistry, Registry, RegistryError,
    RegistrySnapshot, RowKey, WriterRow,
};
use applier::secret::Dek;
use redb::WriteTransaction;
use sim::{File, Mount};

/// The simulated files of one life of a node.
#[derive(Clone, Debug)]
pub struct SimFiles {
    mount: Mount,
    database_calls: Arc<AtomicU64>,
}

impl SimFiles {
    /// The files behind a mount.
    pub fn new(mount: Mount) -> SimFiles {
        SimFiles { mount, database_calls: Arc::default() }
    }

    /// How many mutating calls databases have made through these files.
    pub fn database_calls(&self) -> u64 {
        self.database_calls.load(Ordering::Relaxed)
    }
}

impl Files for SimFiles {
    type Backend = SimBackend;

    fn open_read(&self, path: &str) -> io::Result<Box<dyn io::Read>> {
        Ok(Box::new(Cursor { file: self.mount.open(path)?, at: 0 }))
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(Cursor { file: self.mount.create_new(path)?, at: 0 }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.mount.rename(from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.mount.unlink(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.mount.sync_dir(path)
    }

    /// One process runs on a simulated disk, so nobody else can hold the lock.
    fn lock_dir(&self, _path: &str) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        self.mount.len(path)
    }

    fn backend(&self, path: &str, create: bool) -> io::Result<SimBackend> {
        let file = if create { self.mount.create_new(path)? } else { self.mount.open(path)? };
        Ok(SimBackend { file, calls: Arc::clone(&self.database_calls) })
    }
}

/// An open simulated file with a position, as a file descriptor has one.
struct Cursor {
    file: File,
    at: u64,
}

impl io::Read for Cursor {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(self.at, buf)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl io::Write for Cursor {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(self.at, buf)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for Cursor {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.file.close()
    }
}

/// A simulated file as the storage of a database. One process runs on a simulated disk, so redb's locks between
/// processes are left at their default, which is "not supported".
#[derive(Debug)]
pub struct SimBackend {
    file: File,
    calls: Arc<AtomicU64>,
}

impl SimBackend {
    fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl redb::StorageBackend for SimBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < out.len() {
            match self.file.read_at(offset + done as u64, &mut out[done..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.count();
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()?;
        self.count();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < data.len() {
            match self.file.write_at(offset + done as u64, &data[done..])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => done += count,
            }
            self.count();
        }
        Ok(())
    }
}

/// Something that can be out of order, as a disk under a read or a service behind a network, and whether anyone met it
/// so.
#[derive(Debug, Default)]
pub struct Outage {
    on: AtomicBool,
    met: AtomicBool,
}

impl Outage {
    /// Begins it, or ends it.
    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Whether someone met it since the last time this was asked.
    pub fn take_met(&self) -> bool {
        self.met.swap(false, Ordering::Relaxed)
    }

    /// Whether it lasts; then it is met.
    fn strikes(&self) -> bool {
        let on = self.on.load(Ordering::Relaxed);
        self.met.fetch_or(on, Ordering::Relaxed);
        on
    }
}

/// The registry in its real database, whose reads can be made to fail.
#[derive(Debug)]
pub struct SimRegistry {
    redb: RedbRegistry,
    reads: Arc<Outage>,
}

impl SimRegistry {
    /// A registry whose reads fail while `reads` is out of order.
    pub fn new(redb: RedbRegistry, reads: Arc<Outage>) -> SimRegistry {
        SimRegistry { redb, reads }
    }

    fn check(&self) -> Result<(), RegistryError> {
        match self.reads.strikes() {
            true => Err(RegistryError::Storage("input/output error".to_owned())),
            false => Ok(()),
        }
    }
}

/// A registry whose database a host keeps its data in, too.
pub trait HostsData: Registry<Tx = WriteTransaction> {
    /// The registry itself, past whatever stands in front of it.
    fn redb(&self) -> &RedbRegistry;
}

impl HostsData for SimRegistry {
    fn redb(&self) -> &RedbRegistry {
        &self.redb
    }
}

impl Registry for SimRegistry {
    type Tx = WriteTransaction;

    fn applied_index(&self) -> Result<RaftIndex, RegistryError> {
        self.check()?;
        self.redb.applied_index()
    }

    fn local(&self) -> Result<Local, RegistryError> {
        self.check()?;
        self.redb.local()
    }

    fn rows(&self, keys: &[RowKey]) -> Result<Vec<Option<WriterRow>>, RegistryError> {
        self.check()?;
        self.redb.rows(keys)
    }

    fn snapshot(&self) -> Result<RegistrySnapshot, RegistryError> {
        self.check()?;
        self.redb.snapshot()
    }

    fn commit(&mut self, change: &Change, host: HostPart<'_, WriteTransaction>) -> Result<(), CommitError> {
        self.redb.commit(change, host)
    }

    fn keep(&mut self, change: LocalChange) -> Result<(), CommitError> {
        self.redb.keep(change)
    }

    fn restore(
        &mut self,
        snapshot: &RegistrySnapshot,
        sidecar_index: Option<RaftIndex>,
        host: HostPart<'_, WriteTransaction>,
    ) -> Result<(), CommitError> {
        self.redb.restore(snapshot, sidecar_index, host)
    }
}

/// A KEK that can be out of reach.
#[derive(Debug)]
pub struct SimKek {
    kek: Arc<LocalKek>,
    outage: Arc<Outage>,
}

impl SimKek {
    /// A KEK within reach.
    pub fn new(kek: Arc<LocalKek>) -> SimKek {
        SimKek { kek, outage: Arc::default() }
    }

    /// Another KEK of the same service: out of reach together.
    pub fn beside(&self, kek: Arc<LocalKek>) -> SimKek {
        SimKek { kek, outage: Arc::clone(&self.outage) }
    }

    /// Whether it is out of reach.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }
}

impl Kek for SimKek {
    fn unwrap(&self, blob: &[u8]) -> Result<Dek, UnwrapError> {
        if self.outage.strikes() {
            return Err(UnwrapError::Unavailable(io::ErrorKind::TimedOut.into()));
        }
        self.kek.unwrap(blob)
    }

    fn check_value(&self) -> io::Result<KekCheck> {
        if self.outage.strikes() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.kek.check_value()
    }
}

/// Simulated wall-clock time: one value a life, since nothing but a diagnostic field reads it.
#[derive(Clone, Copy, Debug)]
pub struct FixedClock(pub u64);

impl Clock for FixedClock {
    fn unix_seconds(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use redb::StorageBackend as _;
    use sim::{Disk, Fault};

    use super::*;

    fn short(disk: &Disk, bytes: u64) {
        disk.arm(Fault::ShortAtCall { call: disk.calls(), bytes });
    }

    #[test]
    fn short_calls_cost_a_reader_and_a_writer_nothing_but_calls() {
        let disk = Disk::default();
        let files = SimFiles::new(disk.mount());
        let mut file = files.create_new("/a").expect("no error is armed");
        short(&disk, 3);
        file.write_all(b"keystore").expect("it goes on where it was cut short");
        assert_eq!(disk.peek("/a").as_deref(), Some(b"keystore".as_slice()));
        let mut reader = files.open_read("/a").expect("it exists");
        short(&disk, 5);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("it goes on where it was cut short");
        assert_eq!(read, b"keystore");
    }

    #[test]
    fn short_calls_cost_a_database_nothing_but_calls() {
        let disk = Disk::default();
        let files = SimFiles::new(disk.mount());
        let backend = files.backend("/db", true).expect("no error is armed");
        short(&disk, 1);
        backend.write(2, b"page").expect("it goes on where it was cut short");
        assert_eq!(files.database_calls(), 2);
        assert_eq!(disk.peek("/db").as_deref(), Some(b"\0\0page".as_slice()));
        let mut read = [0; 6];
        short(&disk, 4);
        backend.read(0, &mut read).expect("it goes on where it was cut short");
        assert_eq!(&read, b"\0\0page");
    }
}
