//! Between the store and the real disk: SQLite's own layer of files with four of its functions wrapped, and the three calls
//! of the C library by which names change and directories are synced. All is done as it would be, and told to the [`Disk`]
//! that it lies on; what lies on none is not looked at. The wrapped layer is the default of this whole process.
#![expect(unsafe_code, reason = "SQLite's layer of files, and the calls of the C library, are C")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock};

use rusqlite::ffi;

use crate::disk::{self, FULL, FileId, Kind, MISTAKEN};
use crate::work::Witness;

type Disk = disk::Disk<Witness>;

static DISKS: RwLock<Vec<Arc<Disk>>> = RwLock::new(Vec::new());
/// Files that are open, by the address of SQLite's handle.
static OPEN: Mutex<BTreeMap<usize, Open>> = Mutex::new(BTreeMap::new());
/// SQLite's layer.
static REAL: AtomicPtr<ffi::sqlite3_vfs> = AtomicPtr::new(ptr::null_mut());
/// Tables of functions, of which SQLite has a few, by their address; and the same with what is wrapped.
static WRAPPED: Mutex<BTreeMap<usize, &'static ffi::sqlite3_io_methods>> = Mutex::new(BTreeMap::new());

/// A file that is open.
#[derive(Clone)]
struct Open {
    disk: Arc<Disk>,
    id: FileId,
    /// SQLite's own functions for it.
    methods: &'static ffi::sqlite3_io_methods,
}

/// From now on `disk` is told what happens below its root, until what is returned is dropped.
pub(crate) fn attach(disk: &Arc<Disk>) -> Attached {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(install);
    DISKS.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(disk));
    Attached(Arc::clone(disk))
}

/// A disk that is looked at.
pub(crate) struct Attached(Arc<Disk>);

impl Drop for Attached {
    fn drop(&mut self) {
        DISKS.write().unwrap_or_else(PoisonError::into_inner).retain(|disk| !Arc::ptr_eq(disk, &self.0));
    }
}

fn install() {
    // SAFETY: the default layer lives as long as the process, as does the copy, which differs in its name and in how it opens.
    unsafe {
        let real = ffi::sqlite3_vfs_find(ptr::null());
        assert!(!real.is_null(), "SQLite has a layer of files");
        REAL.store(real, Ordering::Release);
        let ours = Box::new(ffi::sqlite3_vfs { zName: c"kills".as_ptr(), xOpen: Some(open), pNext: ptr::null_mut(), ..*real });
        assert_eq!(ffi::sqlite3_vfs_register(Box::into_raw(ours), 1), ffi::SQLITE_OK);
    }
}

/// The disk that `path` lies on, and its name there.
fn find(path: &str) -> Option<(Arc<Disk>, &str)> {
    let disks = DISKS.read().unwrap_or_else(PoisonError::into_inner);
    disks.iter().find_map(|disk| disk.name(path).map(|name| (Arc::clone(disk), name)))
}

/// SAFETY: `path` is null, or ends with a zero byte and outlives what is returned.
unsafe fn text<'a>(path: *const c_char) -> Option<&'a str> {
    if path.is_null() { None } else { unsafe { CStr::from_ptr(path) }.to_str().ok() }
}

unsafe extern "C" fn open(_: *mut ffi::sqlite3_vfs, path: ffi::sqlite3_filename, file: *mut ffi::sqlite3_file, flags: c_int, out: *mut c_int) -> c_int {
    let real = REAL.load(Ordering::Acquire);
    // SAFETY: SQLite's own argument.
    let known = unsafe { text(path) }.and_then(|path| find(path).map(|(disk, name)| (path, disk, name)));
    let made = known.as_ref().is_some_and(|(path, ..)| !Path::new(path).exists());
    // SAFETY: SQLite's own arguments, passed on to SQLite's own function.
    let code = unsafe { (*real).xOpen.expect("it opens")(real, path, file, flags, out) };
    if let (ffi::SQLITE_OK, Some((path, disk, name))) = (code, known) {
        let inode = std::fs::metadata(path).expect("it was just opened").ino();
        let id = disk.open(name, inode, made);
        // SAFETY: it was opened, so its functions are set, to a table that is never freed.
        let methods = unsafe { &*(*file).pMethods };
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).insert(file as usize, Open { disk, id, methods });
        // SAFETY: as above, and nobody else knows the file yet.
        unsafe { (*file).pMethods = wrapped(methods) };
    }
    code
}

fn wrapped(methods: &'static ffi::sqlite3_io_methods) -> &'static ffi::sqlite3_io_methods {
    let ours = || ffi::sqlite3_io_methods { xClose: Some(close), xWrite: Some(write), xTruncate: Some(truncate), xSync: Some(sync), ..*methods };
    let mut known = WRAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(ptr::from_ref(methods) as usize).or_insert_with(|| Box::leak(Box::new(ours())))
}

fn told(file: *mut ffi::sqlite3_file) -> Open {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.get(&(file as usize)).cloned().expect("only files that were told have these functions")
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let Open { methods, .. } = told(file);
    // Before: another file may get its address at once.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&(file as usize));
    // SAFETY: SQLite's own argument, passed on.
    unsafe { methods.xClose.expect("it closes")(file) }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, bytes: *const c_void, length: c_int, at: ffi::sqlite3_int64) -> c_int {
    let Open { disk, id, methods } = told(file);
    match disk.refuses(Kind::Write) {
        Some(FULL) => return ffi::SQLITE_FULL,
        Some(_) => return ffi::SQLITE_IOERR_WRITE,
        None => {}
    }
    // SAFETY: SQLite's own arguments: `bytes` is as long as it says.
    unsafe {
        disk.write(id, at as usize, std::slice::from_raw_parts(bytes.cast(), length as usize));
        methods.xWrite.expect("it writes")(file, bytes, length, at)
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    let Open { disk, id, methods } = told(file);
    disk.truncate(id, size as usize);
    // SAFETY: SQLite's own arguments, passed on.
    unsafe { methods.xTruncate.expect("it truncates")(file, size) }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let Open { disk, id, methods } = told(file);
    if disk.refuses(Kind::Sync).is_some() {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    // SAFETY: SQLite's own arguments, passed on.
    let done = disk.sync(id, || unsafe { methods.xSync.expect("it syncs")(file, flags) }, |code| *code == ffi::SQLITE_OK);
    if disk.mood.load(Ordering::Relaxed) == MISTAKEN { ffi::SQLITE_IOERR_FSYNC } else { done }
}

/// Stands before the C library's, for the standard library and for SQLite.
///
/// SAFETY: as the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's.
    let (old, new) = unsafe { (text(from), text(to)) };
    if let (Some((disk, from)), Some((_, to))) = (old.and_then(find), new.and_then(find)) {
        disk.rename(from, to);
    }
    // SAFETY: the caller's arguments, passed on.
    unsafe { libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0 as c_int) as c_int }
}

/// As [`rename`].
///
/// SAFETY: as the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's.
    if let Some((disk, name)) = unsafe { text(path) }.and_then(find) {
        disk.remove(name);
    }
    // SAFETY: the caller's argument, passed on.
    unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0 as c_int) as c_int }
}

/// As [`rename`].
#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    synced(file, libc::SYS_fsync)
}

/// As [`rename`].
#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    synced(file, libc::SYS_fdatasync)
}

fn synced(file: c_int, call: c_long) -> c_int {
    // SAFETY: takes a number, whatever it is.
    let code = unsafe { libc::syscall(call, file) } as c_int;
    let path = std::fs::read_link(format!("/proc/self/fd/{file}")).ok().filter(|path| code == 0 && path.is_dir());
    if let Some((disk, name)) = path.as_ref().and_then(|path| path.to_str()).and_then(find) {
        disk.sync_dir(name);
    }
    code
}
