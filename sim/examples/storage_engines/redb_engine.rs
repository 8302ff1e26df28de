//! redb: its storage backend is one file, so that it is an adaptor of five short methods.

use std::{io, marker::PhantomData};

use redb::{Database, Durability, ReadableDatabase, StorageBackend, TableDefinition};
use sim::{File, Mount};

use super::{Engine, FILLER, Fallible, KEYS};

const TABLE: TableDefinition<'_, u64, (u64, &[u8])> = TableDefinition::new("rows");
const PATH: &str = "/rows.redb";

/// When a commit is durable.
pub(crate) trait Level {
    const DURABILITY: Durability;
}

/// When it returns: the default.
pub(crate) struct Immediate;

/// With a later one.
pub(crate) struct Eventual;

impl Level for Immediate {
    const DURABILITY: Durability = Durability::Immediate;
}

impl Level for Eventual {
    const DURABILITY: Durability = Durability::None;
}

pub(crate) struct Redb<L>(Database, PhantomData<L>);

impl<L: Level> Engine for Redb<L> {
    fn open(mount: &Mount) -> Fallible<Self> {
        let file = match mount.len(PATH)? {
            Some(_) => mount.open(PATH)?,
            None => mount.create_new(PATH)?,
        };
        Ok(Redb(Database::builder().create_with_backend(Backend(file))?, PhantomData))
    }

    fn commit(&mut self, value: u64) -> Fallible<()> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(L::DURABILITY)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for key in 0..KEYS {
                table.insert(key, (value, FILLER.as_slice()))?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn values(&self) -> Fallible<Vec<u64>> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        table.range(0..KEYS)?.map(|row| Ok(row?.1.value().0)).collect()
    }
}

/// One process runs on a simulated disk, so locks are left at their default, which is "not supported".
#[derive(Debug)]
struct Backend(File);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.0.read_at(offset, out)? {
            count if count == out.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data).map(drop)
    }
}
