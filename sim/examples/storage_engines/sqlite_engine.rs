//! SQLite: several files, whose names matter to it. The VFS does what that of SQLite for Unix does: the first sync of a
//! new journal also syncs its directory. Whether the directory is synced after a journal was removed, SQLite says in a
//! flag that the adaptor does not hand on; it is set at `synchronous=EXTRA` and not below, so the VFS is told.

use std::{borrow::Cow, cell::RefCell, io, marker::PhantomData, sync::Once, time::Duration};

use rusqlite::{Connection, OpenFlags};
use sim::{File, Mount};
use sqlite_vfs::{DatabaseHandle, LockKind, OpenAccess, OpenKind, OpenOptions, Vfs, WalDisabled};

use super::{Engine, FILLER, Fallible, KEYS};

thread_local! {
    /// SQLite knows its file systems by name and for ever. Each of ours finds the disk here that a connection of this
    /// thread was last opened on, and there is one at a time.
    static MOUNT: RefCell<Option<Mount>> = const { RefCell::new(None) };
}

/// How much SQLite syncs.
pub(crate) trait Level: Sync + 'static {
    const NAME: &'static str;
    /// Whether it wants the directory synced after it has removed a journal.
    const SYNCS_REMOVAL: bool;
    fn registered() -> &'static Once;
}

/// `synchronous=FULL`, the default.
pub(crate) struct Full;

/// `synchronous=EXTRA`.
pub(crate) struct Extra;

impl Level for Full {
    const NAME: &'static str = "FULL";
    const SYNCS_REMOVAL: bool = false;

    fn registered() -> &'static Once {
        static REGISTERED: Once = Once::new();
        &REGISTERED
    }
}

impl Level for Extra {
    const NAME: &'static str = "EXTRA";
    const SYNCS_REMOVAL: bool = true;

    fn registered() -> &'static Once {
        static REGISTERED: Once = Once::new();
        &REGISTERED
    }
}

pub(crate) struct Sqlite<L>(Connection, PhantomData<L>);

impl<L: Level> Engine for Sqlite<L> {
    fn open(mount: &Mount) -> Fallible<Self> {
        L::registered().call_once(|| {
            sqlite_vfs::register(L::NAME, SimVfs::<L>(PhantomData), false).expect("the name is free");
        });
        MOUNT.set(Some(mount.clone()));
        let connection = Connection::open_with_flags_and_vfs("/rows.db", OpenFlags::default(), L::NAME)?;
        connection.pragma_update(None, "synchronous", L::NAME)?;
        connection.execute("CREATE TABLE IF NOT EXISTS rows (key INTEGER PRIMARY KEY, value, filler)", ())?;
        Ok(Sqlite(connection, PhantomData))
    }

    fn commit(&mut self, value: u64) -> Fallible<()> {
        let transaction = self.0.transaction()?;
        for key in 0..KEYS {
            let row = (key as i64, value as i64, FILLER);
            transaction.execute("INSERT OR REPLACE INTO rows VALUES (?1, ?2, ?3)", row)?;
        }
        Ok(transaction.commit()?)
    }

    fn values(&self) -> Fallible<Vec<u64>> {
        let mut query = self.0.prepare("SELECT value FROM rows ORDER BY key")?;
        let values = query.query_map((), |row| row.get::<_, i64>(0))?;
        values.map(|value| Ok(value? as u64)).collect()
    }
}

struct SimVfs<L>(PhantomData<L>);

fn mount() -> Mount {
    MOUNT.with_borrow(|mount| mount.clone().expect("a connection is opened on a disk"))
}

impl<L: Level> Vfs for SimVfs<L> {
    type Handle = Handle;

    fn open(&self, path: &str, options: OpenOptions) -> io::Result<Handle> {
        let mount = mount();
        let is_new = mount.len(path)?.is_none();
        let file = match options.access {
            OpenAccess::Create | OpenAccess::CreateNew if is_new => mount.create_new(path)?,
            _ => mount.open(path)?,
        };
        let name_is_new = is_new && options.kind == OpenKind::MainJournal;
        Ok(Handle { mount, file, name_is_new, lock: LockKind::None })
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        mount().unlink(path)?;
        if L::SYNCS_REMOVAL { mount().sync_dir("/") } else { Ok(()) }
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        Ok(mount().len(path)?.is_some())
    }

    fn temporary_name(&self) -> String {
        "/temporary".to_owned()
    }

    /// The same in every run.
    fn random(&self, buffer: &mut [i8]) {
        buffer.fill(7);
    }

    fn sleep(&self, duration: Duration) -> Duration {
        duration
    }

    fn full_pathname<'a>(&self, path: &'a str) -> io::Result<Cow<'a, str>> {
        Ok(path.into())
    }
}

/// An open file. One process runs on a simulated disk, so a lock is a note of what was asked for.
struct Handle {
    mount: Mount,
    file: File,
    name_is_new: bool,
    lock: LockKind,
}

impl DatabaseHandle for Handle {
    type WalIndex = WalDisabled;

    fn size(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let count = self.file.read_at(offset, buffer)?;
        if count == buffer.len() {
            return Ok(());
        }
        buffer[count..].fill(0);
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn write_all_at(&mut self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(offset, buffer).map(drop)
    }

    fn sync(&mut self, _data_only: bool) -> io::Result<()> {
        self.file.sync()?;
        if std::mem::take(&mut self.name_is_new) { self.mount.sync_dir("/") } else { Ok(()) }
    }

    fn set_len(&mut self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn lock(&mut self, lock: LockKind) -> io::Result<bool> {
        self.lock = lock;
        Ok(true)
    }

    fn reserved(&mut self) -> io::Result<bool> {
        Ok(self.lock >= LockKind::Reserved)
    }

    fn current_lock(&self) -> io::Result<LockKind> {
        Ok(self.lock)
    }

    fn wal_index(&self, _readonly: bool) -> io::Result<WalDisabled> {
        Ok(WalDisabled)
    }
}
