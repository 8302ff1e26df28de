use std::io;

use sim::Mount;

/// The calls that the program makes, and no others.
trait Files {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    fn sync(&self, path: &str) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn unlink(&self, path: &str) -> io::Result<()>;
    fn sync_dir(&self, path: &str) -> io::Result<()>;
}

impl Files for Mount {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(len) = self.len(path)? else { return Ok(None) };
        let mut bytes = vec![0; len as usize];
        self.open(path)?.read_at(0, &mut bytes)?;
        Ok(Some(bytes))
    }

    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.create_new(path)?.write_at(0, bytes).map(drop)
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        self.open(path)?.sync()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Mount::rename(self, from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        Mount::unlink(self, path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        Mount::sync_dir(self, path)
    }
}
