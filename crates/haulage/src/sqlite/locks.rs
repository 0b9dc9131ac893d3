//! SQLite's locks, so that nothing else in the process takes them away.
//!
//! SQLite uses POSIX locks, which belong to the process: whoever else in it
//! closes the file (a second copy of SQLite, such as Python's `sqlite3`; a
//! plain `open` and `close`) drops them all, unheard. That copy sees no locks
//! of its own process either, takes itself for the only user of the database,
//! and deletes the log under everybody else. (“How To Corrupt An SQLite
//! Database File”, 2.2.)
//!
//! So on Linux our copy of SQLite gets another `fcntl`: its locks become locks
//! of an open file, on a descriptor that only this module has. They conflict
//! with POSIX locks of this process and of others as they should, and end when
//! SQLite unlocks, or closes its own descriptor, or the process dies.
//!
//! SQLite counts its locks once a process and file, and may take one through
//! one descriptor and release it through another. So there is one descriptor
//! for the locks of each file, which is what POSIX locks amount to.
#![allow(unsafe_code)]

use std::{
    cell::UnsafeCell,
    collections::{BTreeMap, BTreeSet},
    ffi::{c_int, c_void},
    fs::File,
    mem,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
    ptr,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::ffi;

unsafe extern "C" {
    /// Not in the crate `libc`.
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> c_int;
}

/// A file, whatever its name: device and inode.
type FileId = (u64, u64);

/// What is open.
struct Table {
    /// SQLite's descriptors that have asked for locks, and their files.
    descriptors: BTreeMap<c_int, FileId>,
    /// The one descriptor that has the locks of a file, and how many of
    /// SQLite's stand behind it.
    locks: BTreeMap<FileId, (c_int, usize)>,
    /// What a forked child must not keep open besides.
    shut_in_children: BTreeSet<c_int>,
}

/// The table behind a mutex that can be held across a fork, unlike `std`'s.
struct Shared {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    table: UnsafeCell<Table>,
}

// SAFETY: `table` is only reached with `mutex` locked.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared {
    mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
    table: UnsafeCell::new(Table {
        descriptors: BTreeMap::new(),
        locks: BTreeMap::new(),
        shut_in_children: BTreeSet::new(),
    }),
};

/// The kernel has no locks of open files (Linux before 3.15, sandboxes).
static PLAIN: AtomicBool = AtomicBool::new(false);
/// This process is a forked child of one that had a database open.
static FORKED: AtomicBool = AtomicBool::new(false);

impl Shared {
    fn lock(&self) {
        // SAFETY: a valid mutex; it fails only where this thread has it already.
        unsafe { libc::pthread_mutex_lock(self.mutex.get()) };
    }

    fn unlock(&self) {
        // SAFETY: locked by this thread.
        unsafe { libc::pthread_mutex_unlock(self.mutex.get()) };
    }

    fn with<T>(&self, f: impl FnOnce(&mut Table) -> T) -> T {
        self.lock();
        // SAFETY: the mutex is ours; `f` does not come back here.
        let result = f(unsafe { &mut *self.table.get() });
        self.unlock();
        result
    }
}

/// Gives SQLite our `fcntl` and `close`. To be called before the first
/// connection is opened; later calls do nothing.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        type Plain = unsafe extern "C" fn();
        type Fcntl = unsafe extern "C" fn(c_int, c_int, *mut c_void) -> c_int;
        type Close = unsafe extern "C" fn(c_int) -> c_int;
        // SAFETY: SQLite calls what it is given under these names as it calls
        // the originals. `fcntl` is variadic there, and on 64-bit Linux a third
        // argument is passed the same way to a function that has three.
        unsafe {
            let vfs = ffi::sqlite3_vfs_find(c"unix".as_ptr());
            let Some(set) = vfs.as_ref().and_then(|vfs| vfs.xSetSystemCall) else {
                return PLAIN.store(true, Ordering::Relaxed);
            };
            set(vfs, c"fcntl".as_ptr(), Some(mem::transmute::<Fcntl, Plain>(sqlite_fcntl)));
            set(vfs, c"close".as_ptr(), Some(mem::transmute::<Close, Plain>(sqlite_close)));
            pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child));
        }
    });
}

unsafe extern "C" fn sqlite_fcntl(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
    let ofd = match command {
        libc::F_SETLK => libc::F_OFD_SETLK,
        libc::F_SETLKW => libc::F_OFD_SETLKW,
        libc::F_GETLK => libc::F_OFD_GETLK,
        _ => 0,
    };
    if ofd != 0
        && !PLAIN.load(Ordering::Relaxed)
        && let Some(lock_fd) = SHARED.with(|table| table.descriptor_for(fd))
    {
        // SAFETY: for these commands, SQLite passes a `flock` of its own.
        let region = unsafe { &mut *argument.cast::<libc::flock>() };
        region.l_pid = 0;
        // SAFETY: an open file, and a `flock` that outlives the call.
        let result = unsafe { libc::fcntl(lock_fd, ofd, ptr::from_mut(region)) };
        // SAFETY: this thread's own.
        if result == 0 || unsafe { *libc::__errno_location() } != libc::EINVAL {
            return result;
        }
        // SQLite's regions are valid, so it is the command that is not known.
        PLAIN.store(true, Ordering::Relaxed);
    }
    // SAFETY: what SQLite asked for, as it asked.
    unsafe { libc::fcntl(fd, command, argument) }
}

unsafe extern "C" fn sqlite_close(fd: c_int) -> c_int {
    SHARED.with(|table| table.forget(fd));
    // SAFETY: SQLite's own descriptor, which it is done with.
    unsafe { libc::close(fd) }
}

impl Table {
    /// The descriptor for the locks of the file that SQLite has open as `fd`.
    fn descriptor_for(&mut self, fd: c_int) -> Option<c_int> {
        if let Some(file) = self.descriptors.get(&fd) {
            return self.locks.get(file).map(|lock| lock.0);
        }
        let file = identify(fd)?;
        let lock = match self.locks.get_mut(&file) {
            Some(lock) => {
                lock.1 += 1;
                lock.0
            }
            None => {
                let lock_fd = open_again(fd)?;
                self.locks.insert(file, (lock_fd, 1));
                lock_fd
            }
        };
        self.descriptors.insert(fd, file);
        Some(lock)
    }

    /// SQLite closes this one. It only does so once the file is unlocked,
    /// or where it relies on the close to unlock it.
    fn forget(&mut self, fd: c_int) {
        let Some(file) = self.descriptors.remove(&fd) else { return };
        let Some(lock) = self.locks.get_mut(&file) else { return };
        lock.1 -= 1;
        if lock.1 == 0 {
            // SAFETY: ours, and nobody knows of it any more.
            unsafe { libc::close(lock.0) };
            self.locks.remove(&file);
        }
    }
}

fn identify(fd: c_int) -> Option<FileId> {
    // SAFETY: all-zero is a valid `stat`, and it outlives the call.
    unsafe {
        let mut stat: libc::stat = mem::zeroed();
        (libc::fstat(fd, &raw mut stat) == 0).then_some((stat.st_dev, stat.st_ino))
    }
}

/// Opens the same file once more, so that its locks are its own: those of a
/// duplicate would be shared with a forked child that keeps the original.
fn open_again(fd: c_int) -> Option<c_int> {
    let path = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).ok()?;
    // SAFETY: a path that ends in NUL, and descriptors that are open.
    unsafe {
        let mut opened = libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if opened < 0 {
            opened = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        }
        // Without /proc, or the rights of back then: a duplicate, with its
        // weakness. And nothing of ours where stdin, stdout, stderr belong.
        if (0..3).contains(&opened) || opened < 0 {
            let moved = libc::fcntl(if opened < 0 { fd } else { opened }, libc::F_DUPFD_CLOEXEC, 3);
            if opened >= 0 {
                libc::close(opened);
            }
            opened = moved;
        }
        (opened >= 0).then_some(opened)
    }
}

unsafe extern "C" fn before_fork() {
    SHARED.lock();
}

unsafe extern "C" fn after_fork() {
    SHARED.unlock();
}

/// A child shares its parent's open files, and with them the locks: they
/// would outlive the parent, for as long as any child does. It does without.
unsafe extern "C" fn in_child() {
    // SAFETY: the mutex is this thread's, which is the only one here. `open`,
    // `dup3` and `close` may be called after a fork.
    unsafe {
        let table = &mut *SHARED.table.get();
        // The latter are there for as long as a backend, closed or not. Where
        // SQLite's locks are its own, nothing tells the two apart.
        let plain = PLAIN.load(Ordering::Relaxed);
        if !table.descriptors.is_empty() || (plain && !table.shut_in_children.is_empty()) {
            FORKED.store(true, Ordering::Relaxed);
        }
        for (lock_fd, _) in table.locks.values() {
            libc::close(*lock_fd);
        }
        // Somebody may still think that these numbers are his: they stay taken.
        let nothing = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        for fd in &table.shut_in_children {
            if nothing >= 0 {
                libc::dup3(nothing, *fd, libc::O_CLOEXEC);
            } else {
                libc::close(*fd);
            }
        }
        if nothing >= 0 {
            libc::close(nothing);
        }
        // Not dropped: freeing memory is not for this moment.
        mem::forget(mem::take(&mut table.descriptors));
        mem::forget(mem::take(&mut table.locks));
        mem::forget(mem::take(&mut table.shut_in_children));
    }
    SHARED.unlock();
}

/// Whether this process is a forked child of one that had a database open:
/// SQLite would go on from the parent's state, without its locks.
pub(super) fn was_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Keeps a file from being held open, and locked, by forked children.
#[derive(Debug)]
pub(super) struct Shut(c_int);

pub(super) fn shut_in_children(file: &File) -> Shut {
    let fd = file.as_raw_fd();
    SHARED.with(|table| table.shut_in_children.insert(fd));
    Shut(fd)
}

impl Drop for Shut {
    fn drop(&mut self) {
        SHARED.with(|table| table.shut_in_children.remove(&self.0));
    }
}

/// The byte of the shared memory that is locked by whoever writes (“WAL-mode
/// File Format”, 2.3.1: the write lock is the first of the locks, at 120).
const WRITE_LOCK: libc::off_t = 120;

/// The process that has SQLite's write lock, where that is known: a program
/// other than ours. 0 where nobody has it, and -1 where it is one of ours.
pub(super) fn holder(database: &Path) -> Option<i32> {
    let mut shared_memory = database.as_os_str().to_owned();
    shared_memory.push("-shm");
    let meta = std::fs::metadata(shared_memory).ok()?;
    let lock_fd = SHARED.with(|table| table.locks.get(&(meta.dev(), meta.ino())).map(|lock| lock.0))?;
    // SAFETY: all-zero is a valid `flock`, and it outlives the call.
    unsafe {
        let mut region: libc::flock = mem::zeroed();
        region.l_type = libc::F_WRLCK as libc::c_short;
        region.l_whence = libc::SEEK_SET as libc::c_short;
        region.l_start = WRITE_LOCK;
        region.l_len = 1;
        if libc::fcntl(lock_fd, libc::F_OFD_GETLK, &raw mut region) != 0 {
            return None;
        }
        Some(if region.l_type == libc::F_UNLCK as libc::c_short { 0 } else { region.l_pid })
    }
}
