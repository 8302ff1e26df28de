fn add_durably(files: &impl Files) -> io::Result<u64> {
    let value = get(files)? + 1;
    match files.unlink("/tmp") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    files.create("/tmp", &value.to_le_bytes())?;
    files.sync("/tmp")?;
    files.rename("/tmp", "/counter")?;
    files.sync_dir("/")?;
    Ok(value)
}
