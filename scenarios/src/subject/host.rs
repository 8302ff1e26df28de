//! The host's part of a node: tables in the same database, written in the applier's transactions. A cluster's member
//! also remembers the newest applied request of each client, so that a retried one gets the answer of the first.

use std::collections::BTreeMap;

use applier::registry::HostRefused;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, Value, WriteTransaction};

const DATA: TableDefinition<u64, &[u8]> = TableDefinition::new("host.data");
/// Client -> (request, index).
const SESSIONS: TableDefinition<u64, (u64, u64)> = TableDefinition::new("host.sessions");

/// By client, the newest request that was applied, and its index.
pub(crate) type Sessions = BTreeMap<u64, (u64, u64)>;

/// The host's data: what is stored under each table key.
pub(crate) type Data = BTreeMap<u64, Vec<u8>>;

pub(crate) fn write_data(transaction: &WriteTransaction, key: u64, stored: &[u8]) -> Result<(), HostRefused> {
    refusable(|| {
        transaction.open_table(DATA)?.insert(key, stored)?;
        Ok(())
    })
}

pub(crate) fn write_session(
    transaction: &WriteTransaction,
    client: u64,
    session: (u64, u64),
) -> Result<(), HostRefused> {
    refusable(|| {
        let mut table = transaction.open_table(SESSIONS)?;
        // A copy of an older request may come later than a newer one.
        if table.get(client)?.is_none_or(|known| known.value().0 < session.0) {
            table.insert(client, session)?;
        }
        Ok(())
    })
}

pub(super) fn replace_data(transaction: &WriteTransaction, data: &Data) -> Result<(), HostRefused> {
    refusable(|| {
        let mut table = transaction.open_table(DATA)?;
        table.retain(|_, _| false)?;
        for (key, stored) in data {
            table.insert(*key, stored.as_slice())?;
        }
        Ok(())
    })
}

pub(super) fn replace_sessions(
    transaction: &WriteTransaction,
    sessions: &Sessions,
) -> Result<(), HostRefused> {
    refusable(|| {
        let mut table = transaction.open_table(SESSIONS)?;
        table.retain(|_, _| false)?;
        for (client, session) in sessions {
            table.insert(*client, *session)?;
        }
        Ok(())
    })
}

/// What is stored under one table key.
pub(crate) fn read_value(database: &Database, key: u64) -> Result<Option<Vec<u8>>, redb::Error> {
    let view = database.begin_read()?;
    match view.open_table(DATA) {
        Ok(table) => Ok(table.get(key)?.map(|stored| stored.value().to_vec())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn read_data(database: &Database) -> Result<Data, String> {
    read(database, DATA, <[u8]>::to_vec)
}

pub(crate) fn read_sessions(database: &Database) -> Result<Sessions, String> {
    read(database, SESSIONS, |session| session)
}

/// Runs the host's part of a transaction.
pub(crate) fn refusable(write: impl FnOnce() -> Result<(), redb::Error>) -> Result<(), HostRefused> {
    write().map_err(|error| HostRefused(error.to_string()))
}

/// Every row of a table, which need not be there.
fn read<V, T>(
    database: &Database,
    table: TableDefinition<u64, V>,
    own: impl Fn(V::SelfType<'_>) -> T,
) -> Result<BTreeMap<u64, T>, String>
where
    V: Value + 'static,
{
    let read = || -> Result<BTreeMap<u64, T>, redb::Error> {
        let view = database.begin_read()?;
        let table = match view.open_table(table) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
        let mut rows = BTreeMap::new();
        for row in table.iter()? {
            let (key, value) = row?;
            rows.insert(key.value(), own(value.value()));
        }
        Ok(rows)
    };
    read().map_err(|error| error.to_string())
}
