//! The few things that need the operating system: a page of memory that
//! processes share, waiting on a word in it, a fair lock between them, and a
//! name for a file that replaces no other.
//!
//! This and `locks.rs` are the only unsafe code of the crate.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::ffi::OsStrExt as _},
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// How many words a [`SharedPage`] has in use.
const WORDS: usize = 8;
/// How long the page is: that of the smallest memory page.
pub(super) const PAGE: usize = 4096;

/// A few words of memory, shared by all processes that map the same file.
#[derive(Debug)]
pub(super) struct SharedPage(NonNull<AtomicU32>);

// SAFETY: the page is only ever read and written through atomics, and it stays
// mapped until the last owner drops it.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Maps `file`, makes it long enough for that, and writes one word.
    pub(super) fn map(file: &File, word: usize, value: u32) -> io::Result<Self> {
        assert!(word < WORDS);
        if file.metadata()?.len() < PAGE as u64 {
            file.set_len(PAGE as u64)?;
        }
        // By a write, which fails where the disk is full: a store into the
        // mapping of a hole would kill the process there.
        std::os::unix::fs::FileExt::write_all_at(file, &value.to_ne_bytes(), 4 * word as u64)?;
        // SAFETY: a fresh shared mapping of an open file at an address that
        // the kernel chooses; the file has at least this length.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast()).map(Self).ok_or_else(|| io::Error::other("mapped at address 0"))
    }

    /// The word number `index`.
    pub(super) fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < WORDS);
        // SAFETY: within the page, aligned, and alive as long as `self`.
        unsafe { self.0.add(index).as_ref() }
    }

    /// Waits until the word differs from `seen` or somebody wakes who waits on
    /// it by one of these bits, for `timeout` at most; may return without cause.
    pub(super) fn wait(&self, index: usize, seen: u32, bits: u32, timeout: Duration) -> Waited {
        let word = self.word(index);
        if word.load(Ordering::Acquire) == seen {
            wait_on(word, seen, bits, timeout)
        } else {
            Waited::Changed
        }
    }

    /// Wakes so many of those who wait on the word by one of these bits, in all
    /// processes: who has waited for longest comes first.
    pub(super) fn wake(&self, index: usize, bits: u32, count: u32) {
        wake_some(self.word(index), bits, i32::try_from(count).unwrap_or(i32::MAX));
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nobody can hold a
        // reference into it any more.
        unsafe {
            libc::munmap(self.0.as_ptr().cast(), PAGE);
        }
    }
}

/// How a wait on a word ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Somebody woke who waited on it.
    Woken,
    /// The word differs from what was seen, and nobody was to wake this one.
    Changed,
    /// The time is over, or there is no cause.
    Nothing,
}

#[cfg(target_os = "linux")]
fn wait_on(word: &AtomicU32, seen: u32, bits: u32, timeout: Duration) -> Waited {
    // By these bits the kernel takes a moment of the monotonic clock, not a span.
    let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a `timespec` that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut until) };
    let nanos = until.tv_nsec + timeout.subsec_nanos() as libc::c_long;
    until.tv_sec += timeout.as_secs() as libc::time_t + nanos / 1_000_000_000;
    until.tv_nsec = nanos % 1_000_000_000;
    // SAFETY: the word is valid for the time of the call. Not FUTEX_PRIVATE,
    // since other processes wake us.
    let code = unsafe {
        let (futex, unused) = (word.as_ptr(), std::ptr::null::<u32>());
        libc::syscall(libc::SYS_futex, futex, libc::FUTEX_WAIT_BITSET, seen, &raw const until, unused, bits)
    };
    match code {
        0 => Waited::Woken,
        _ if io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN) => Waited::Changed,
        _ => Waited::Nothing,
    }
}

#[cfg(target_os = "linux")]
fn wake_some(word: &AtomicU32, bits: u32, count: i32) {
    // SAFETY: the word is valid for the time of the call.
    unsafe {
        let (futex, unused) = (word.as_ptr(), std::ptr::null::<u32>());
        libc::syscall(libc::SYS_futex, futex, libc::FUTEX_WAKE_BITSET, count, unused, unused, bits);
    }
}

/// Where processes cannot wait on a shared word, look at it every 2 ms: a
/// load from memory, which costs well under 1 % of a core.
#[cfg(not(target_os = "linux"))]
fn wait_on(word: &AtomicU32, seen: u32, _bits: u32, timeout: Duration) -> Waited {
    let until = std::time::Instant::now() + timeout;
    while std::time::Instant::now() < until {
        if word.load(Ordering::Acquire) != seen {
            return Waited::Changed;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Waited::Nothing
}

#[cfg(not(target_os = "linux"))]
fn wake_some(_word: &AtomicU32, _bits: u32, _count: i32) {}

/// Gives a file another name, which nothing has yet.
pub(super) fn name_new(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => rename_new(from, to, error),
        linked => {
            linked?;
            std::fs::remove_file(from)
        }
    }
}

/// The same on a file system without hard links; `error` says so.
#[cfg(target_os = "linux")]
fn rename_new(from: &Path, to: &Path, _error: io::Error) -> io::Result<()> {
    let name = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (from, to) = (name(from)?, name(to)?);
    let (here, flags) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
    // SAFETY: both names end in a zero, and are valid for the time of the call.
    let code = unsafe { libc::syscall(libc::SYS_renameat2, here, from.as_ptr(), here, to.as_ptr(), flags) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn rename_new(_from: &Path, _to: &Path, error: io::Error) -> io::Result<()> {
    Err(error)
}

/// What to do with a byte of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// Lock it, and wait for it if need be.
    Wait,
    /// Lock it, or fail with `WouldBlock`.
    Try,
    /// Unlock it.
    Free,
}

/// Locks or unlocks one byte of a file.
///
/// The lock belongs to the open file, so that two backends in one process
/// exclude each other too, and the kernel frees it when the process dies.
#[cfg(target_os = "linux")]
pub(super) fn lock_byte(file: &File, byte: i64, lock: Lock) -> io::Result<()> {
    let command = if lock == Lock::Try { libc::F_OFD_SETLK } else { libc::F_OFD_SETLKW };
    loop {
        // SAFETY: all-zero is a valid `flock`.
        let mut region: libc::flock = unsafe { std::mem::zeroed() };
        region.l_type = if lock == Lock::Free { libc::F_UNLCK } else { libc::F_WRLCK } as libc::c_short;
        region.l_whence = libc::SEEK_SET as libc::c_short;
        region.l_start = byte;
        region.l_len = 1;
        // SAFETY: an open file and a `flock` that outlives the call.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const region) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Without such locks, SQLite's own lock does the work: as safe, less fair.
#[cfg(not(target_os = "linux"))]
pub(super) fn lock_byte(_file: &File, _byte: i64, _lock: Lock) -> io::Result<()> {
    Ok(())
}

/// How large a disk is, and how much of it an unprivileged process can still
/// write, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) total: u64,
    pub(super) free: u64,
}

/// The disk that holds a file or folder.
pub(super) fn disk(path: &std::path::Path) -> io::Result<Disk> {
    let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))?;
    // SAFETY: all-zero is a valid `statvfs`, and the path ends in NUL.
    unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &raw mut stat) != 0 {
            return Err(io::Error::last_os_error());
        }
        #[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // widths differ by platform
        let bytes = |blocks| u64::from(blocks).saturating_mul(stat.f_frsize as u64);
        Ok(Disk { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_page_has_its_place_on_the_disk_before_it_is_written() {
        use std::os::unix::fs::MetadataExt as _;

        let file = tempfile::tempfile().expect("file");
        let _page = SharedPage::map(&file, 0, 1).expect("map");
        assert_ne!(file.metadata().expect("metadata").blocks(), 0, "a hole, which a full disk cannot fill");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_new_name_replaces_no_file_with_hard_links_and_without() {
        let folder = tempfile::tempdir().expect("tempdir");
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        let no_links = |from: &Path, to: &Path| rename_new(from, to, io::ErrorKind::Unsupported.into());
        for name in [name_new, no_links] {
            std::fs::write(&from, "new").expect("write");
            std::fs::write(&to, "old").expect("write");
            let refused = name(&from, &to).expect_err("there is a file");
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read_to_string(&to).expect("read"), "old");
            std::fs::remove_file(&to).expect("remove");
            name(&from, &to).expect("there is none");
            assert_eq!((std::fs::read_to_string(&to).expect("read").as_str(), from.exists()), ("new", false));
        }
    }
}
