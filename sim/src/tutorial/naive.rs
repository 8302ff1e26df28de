/// The counter's value.
fn get(files: &impl Files) -> io::Result<u64> {
    let Some(bytes) = files.read("/counter")? else { return Ok(0) };
    let bytes = bytes.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Adds one, and gives the new value.
fn add(files: &impl Files) -> io::Result<u64> {
    let value = get(files)? + 1;
    files.create("/tmp", &value.to_le_bytes())?;
    files.rename("/tmp", "/counter")?;
    Ok(value)
}
