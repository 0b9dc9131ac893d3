//! The layer under SQLite that knows of each [`Disk`].
//!
//! It is SQLite's own layer for this system, of which it replaces how a file is
//! opened and deleted, and for files on such a disk how they are written,
//! read, flushed, cut and closed. All else, locks and shared memory included, stays
//! as it is.
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_void},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use rusqlite::ffi::{
    SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_READ, SQLITE_IOERR_WRITE, SQLITE_OK, sqlite3_file,
    sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

use super::disk::{Disk, Trouble};

/// Makes `folder` a disk, for every connection that this process opens from now on.
pub(crate) fn mount(folder: &Path) -> Arc<Disk> {
    let disk = Arc::new(Disk::new());
    let folder = folder.canonicalize().expect("the folder");
    layer().disks.push((folder, Arc::clone(&disk)));
    disk
}

static LAYER: LazyLock<Mutex<Layer>> = LazyLock::new(|| Mutex::new(Layer::install()));

fn layer() -> MutexGuard<'static, Layer> {
    LAYER.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Layer {
    /// SQLite's own.
    below: sqlite3_vfs,
    disks: Vec<(PathBuf, Arc<Disk>)>,
    /// The files that are open, by the address of SQLite's handle.
    open: HashMap<usize, OpenFile>,
    /// Ours for each of SQLite's tables of methods, by its address.
    methods: HashMap<usize, &'static sqlite3_io_methods>,
}

#[derive(Clone)]
struct OpenFile {
    name: String,
    disk: Arc<Disk>,
    below: &'static sqlite3_io_methods,
}

// SAFETY: the pointers in it are to what SQLite keeps for ever, and does not change.
unsafe impl Send for Layer {}

impl Layer {
    fn install() -> Self {
        // SAFETY: the default is never unregistered; ours, which goes on with
        // what is behind the copied pointers, is leaked.
        unsafe {
            let below = *sqlite3_vfs_find(std::ptr::null());
            let ours = sqlite3_vfs {
                pNext: std::ptr::null_mut(),
                zName: c"haulage-test-disk".as_ptr(),
                xOpen: Some(open),
                xDelete: Some(delete),
                ..below
            };
            assert_eq!(sqlite3_vfs_register(Box::leak(Box::new(ours)), 1), SQLITE_OK);
            Self { below, disks: Vec::new(), open: HashMap::new(), methods: HashMap::new() }
        }
    }

    fn find(&self, name: *const c_char) -> Option<(String, Arc<Disk>)> {
        if name.is_null() {
            return None;
        }
        // SAFETY: SQLite's paths end in NUL.
        let path = Path::new(unsafe { CStr::from_ptr(name) }.to_str().ok()?);
        let (_, disk) = self.disks.iter().find(|(folder, _)| path.parent() == Some(folder))?;
        Some((path.file_name()?.to_str()?.to_owned(), Arc::clone(disk)))
    }

    fn ours(&mut self, below: &'static sqlite3_io_methods) -> &'static sqlite3_io_methods {
        self.methods.entry(std::ptr::from_ref(below) as usize).or_insert_with(|| {
            Box::leak(Box::new(sqlite3_io_methods {
                xClose: Some(close),
                xRead: Some(read),
                xWrite: Some(write),
                xTruncate: Some(truncate),
                xSync: Some(sync),
                ..*below
            }))
        })
    }
}

fn opened(file: *mut sqlite3_file) -> OpenFile {
    layer().open.get(&(file as usize)).expect("SQLite opened it through us").clone()
}

const fn code(trouble: Trouble) -> c_int {
    match trouble {
        Trouble::Full => SQLITE_FULL,
        Trouble::NoWrites => SQLITE_IOERR_WRITE,
        Trouble::NoFlushes | Trouble::Stuck => SQLITE_IOERR_FSYNC,
    }
}

fn size(number: i64) -> usize {
    usize::try_from(number).expect("SQLite's offsets and sizes are not negative")
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let (below, place) = {
        let layer = layer();
        (layer.below.xOpen.expect("there is one"), layer.find(name))
    };
    if let Some((name_on_disk, disk)) = &place {
        // SAFETY: as in `find`. Reading it here drops no lock that matters: it
        // is the first time that this process opens it.
        let path = unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default();
        disk.opened(name_on_disk, || std::fs::read(path).unwrap_or_default());
    }
    // SAFETY: SQLite's own arguments; `file` has the size that our copy of its table says.
    let answer = unsafe { below(vfs, name, file, flags, out) };
    // SAFETY: as above; SQLite sets the methods of a file that it has opened,
    // and its tables of methods are static.
    if let (SQLITE_OK, Some((name, disk)), Some(below)) =
        (answer, place, unsafe { (*file).pMethods.as_ref() })
    {
        let mut layer = layer();
        let ours = layer.ours(below);
        layer.open.insert(file as usize, OpenFile { name, disk, below });
        // SAFETY: as above.
        unsafe { (*file).pMethods = ours };
    }
    answer
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    let (below, place) = {
        let layer = layer();
        (layer.below.xDelete.expect("there is one"), layer.find(name))
    };
    // SAFETY: SQLite's own arguments.
    let answer = unsafe { below(vfs, name, sync) };
    if let (SQLITE_OK, Some((name, disk))) = (answer, place) {
        disk.deleted(&name);
    }
    answer
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let open = layer().open.remove(&(file as usize)).expect("SQLite opened it through us");
    // SAFETY: SQLite's own argument.
    unsafe { open.below.xClose.expect("there is one")(file) }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, data: *mut c_void, length: c_int, at: i64) -> c_int {
    let open = opened(file);
    // SAFETY: SQLite's own arguments.
    let answer = unsafe { open.below.xRead.expect("there is one")(file, data, length, at) };
    // SAFETY: SQLite gives room for that many bytes, which were just read.
    let bytes = || unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size(length.into())) };
    if answer == SQLITE_OK && open.disk.misreads(bytes()) { SQLITE_IOERR_READ } else { answer }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, data: *const c_void, length: c_int, at: i64) -> c_int {
    let open = opened(file);
    // SAFETY: SQLite hands over that many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size(length.into())) };
    let mut answer = SQLITE_OK;
    let below = || {
        // SAFETY: SQLite's own arguments.
        answer = unsafe { open.below.xWrite.expect("there is one")(file, data, length, at) };
        answer == SQLITE_OK
    };
    match open.disk.write(&open.name, size(at), bytes, below) {
        Err(trouble) if answer == SQLITE_OK => code(trouble),
        _ => answer,
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: i64) -> c_int {
    let open = opened(file);
    // SAFETY: SQLite's own arguments.
    let answer = unsafe { open.below.xTruncate.expect("there is one")(file, length) };
    if answer == SQLITE_OK {
        open.disk.truncated(&open.name, size(length));
    }
    answer
}

/// There is nothing to flush to: the disk is a model, and below it is a folder
/// that is gone in a moment.
unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    let open = opened(file);
    open.disk.flush(&open.name).map_or_else(code, |()| SQLITE_OK)
}
