//! The error numbers that the disk answers with, as Linux numbers them.

use std::io;

/// No such file or directory; also a path that leads through a name that is not there.
pub const ENOENT: i32 = 2;
/// Input/output error; also the answer to every call of a life that has ended.
pub const EIO: i32 = 5;
/// The name exists.
pub const EEXIST: i32 = 17;
/// A rename into another directory, which is not modelled.
pub const EXDEV: i32 = 18;
/// Not a directory.
pub const ENOTDIR: i32 = 20;
/// Is a directory.
pub const EISDIR: i32 = 21;
/// A path that does not begin with `/`, that names the root where a file is wanted, or that has `.` or `..`
/// in it.
pub const EINVAL: i32 = 22;
/// A file longer than one GiB: more than any subject needs, so rather a mistake than a file.
pub const EFBIG: i32 = 27;
/// No space left on the device.
pub const ENOSPC: i32 = 28;

/// The longest file, in bytes; see [`EFBIG`].
pub(crate) const FILE_LEN_MAX: u64 = 1 << 30;

pub(crate) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
