//! The host's part of a node: tables in the same database, written in the applier's transactions. A cluster's member
//! also remembers the newest applied request of each client, so that a retried one gets the answer of the first.

use std::collections::BTreeMap;

use applier::registry::{HostRefused, RedbRegistry};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};

const DATA: TableDefinition<u64, u64> = TableDefinition::new("host.data");
/// Client -> (request, index).
const SESSIONS: TableDefinition<u64, (u64, u64)> = TableDefinition::new("host.sessions");

/// By client, the newest request that was applied, and its index.
pub(crate) type Sessions = BTreeMap<u64, (u64, u64)>;

pub(crate) fn write_data(transaction: &WriteTransaction, key: u64, value: u64) -> Result<(), HostRefused> {
    let write = || -> Result<(), redb::Error> {
        transaction.open_table(DATA)?.insert(key, value)?;
        Ok(())
    };
    write().map_err(|error| HostRefused(error.to_string()))
}

pub(crate) fn replace_data(
    transaction: &WriteTransaction,
    data: &BTreeMap<u64, u64>,
) -> Result<(), HostRefused> {
    let write = || -> Result<(), redb::Error> {
        let mut table = transaction.open_table(DATA)?;
        table.retain(|_, _| false)?;
        for (key, value) in data {
            table.insert(key, value)?;
        }
        Ok(())
    };
    write().map_err(|error| HostRefused(error.to_string()))
}

pub(super) fn read_data(registry: &RedbRegistry) -> Result<BTreeMap<u64, u64>, String> {
    let read = || -> Result<BTreeMap<u64, u64>, redb::Error> {
        let view = registry.database().begin_read()?;
        let table = match view.open_table(DATA) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
        let mut data = BTreeMap::new();
        for row in table.iter()? {
            let (key, value) = row?;
            data.insert(key.value(), value.value());
        }
        Ok(data)
    };
    read().map_err(|error| error.to_string())
}

pub(crate) fn write_session(
    transaction: &WriteTransaction,
    client: u64,
    session: (u64, u64),
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(SESSIONS)?;
    // A copy of an older request may come later than a newer one.
    if table.get(client)?.is_none_or(|known| known.value().0 < session.0) {
        table.insert(client, session)?;
    }
    Ok(())
}

pub(crate) fn replace_sessions(
    transaction: &WriteTransaction,
    sessions: &Sessions,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(SESSIONS)?;
    table.retain(|_, _| false)?;
    for (client, session) in sessions {
        table.insert(client, session)?;
    }
    Ok(())
}

pub(crate) fn read_sessions(database: &Database) -> Result<Sessions, String> {
    let read = || -> Result<Sessions, redb::Error> {
        let view = database.begin_read()?;
        let table = match view.open_table(SESSIONS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Sessions::new()),
            Err(error) => return Err(error.into()),
        };
        let mut sessions = Sessions::new();
        for row in table.iter()? {
            let (client, session) = row?;
            sessions.insert(client.value(), session.value());
        }
        Ok(sessions)
    };
    read().map_err(|error| error.to_string())
}
