//! The host's part of a node: a table of data in the same database, written in the applier's transactions.

use std::collections::BTreeMap;

use applier::registry::{HostRefused, RedbRegistry};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};

const DATA: TableDefinition<u64, u64> = TableDefinition::new("host.data");

pub(super) fn write_data(transaction: &WriteTransaction, key: u64, value: u64) -> Result<(), HostRefused> {
    let write = || -> Result<(), redb::Error> {
        transaction.open_table(DATA)?.insert(key, value)?;
        Ok(())
    };
    write().map_err(|error| HostRefused(error.to_string()))
}

pub(super) fn replace_data(
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
