use sim::crashes::Survivor;

/// Whether all is well after a crash: the program's next life tells.
fn judge(survivor: &Survivor, add: fn(&Mount) -> io::Result<u64>) -> Result<(), String> {
    let files = survivor.mount();
    let value = get(&files).map_err(|error| format!("the counter can't be read: {}", error.kind()))?;
    if value < survivor.acknowledged() {
        return Err("the counter goes back".to_owned());
    }
    match add(&files) {
        Ok(next) if next == value + 1 => Ok(()),
        Ok(_) => Err("one and one is not two".to_owned()),
        Err(error) => Err(format!("it can't be added to: {}", error.kind())),
    }
}
