use sim::{Choices, Disk, Fault, Site};

const LIVES: Site = Site::new("tutorial.lives");
const ADDS: Site = Site::new("tutorial.adds");
const DEATH: Site = Site::new("tutorial.death");
const POWER: Site = Site::new("tutorial.power");

/// A few lives of a counter, and what is wrong after the first that leaves something wrong.
fn world(choices: &mut Choices, add: fn(&Mount) -> io::Result<u64>) -> Result<(), String> {
    let disk = Disk::default();
    let mut acknowledged = 0;
    for _ in 0..choices.range(LIVES, 1..=4) {
        let files = disk.mount();
        let value = get(&files).map_err(|error| format!("the counter can't be read: {}", error.kind()))?;
        if value < acknowledged {
            return Err(format!("{acknowledged} were added, and the counter is at {value}"));
        }
        // 0 is always the answer with which nothing bad happens.
        match choices.draw(DEATH, 20) {
            0 => {}
            calls => disk.arm(Fault::DieAtMutation(disk.mutations() + calls - 1)),
        }
        for _ in 0..choices.range(ADDS, 1..=3) {
            match add(&files) {
                Ok(value) => acknowledged = value,
                Err(_) if disk.is_dead() => break,
                Err(error) => return Err(format!("it can't be added to: {}", error.kind())),
            }
        }
        match choices.draw(POWER, 2) {
            0 => disk.process_crash(),
            _ => drop(disk.power_loss(choices)),
        }
    }
    Ok(())
}
