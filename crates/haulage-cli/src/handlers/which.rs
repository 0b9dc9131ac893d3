//! Whether a program is there, as an `exec` would find it.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

/// Looks for the program, where its name has no `/` along `path`.
///
/// # Errors
///
/// A sentence that says what is wrong with it.
pub(super) fn find(name: &OsStr, path: Option<&OsStr>) -> Result<(), String> {
    let shown = name.display();
    if name.is_empty() {
        return Err("the program's name is empty".into());
    }
    if name.as_bytes().contains(&b'/') {
        return executable(Path::new(name)).map_err(|why| format!("cannot run {shown}: {why}"));
    }
    let mut unusable = None;
    for folder in std::env::split_paths(path.unwrap_or_default()) {
        let file = folder.join(name);
        match executable(&file) {
            Ok(()) => return Ok(()),
            Err(why) if file.exists() => {
                unusable = unusable.or(Some(format!("cannot run {}: {why}", file.display())));
            }
            Err(_) => {}
        }
    }
    Err(unusable.unwrap_or_else(|| format!("cannot find the program {shown}; it is in no folder of $PATH")))
}

fn executable(file: &Path) -> Result<(), String> {
    let metadata = fs::metadata(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    })?;
    if metadata.is_dir() {
        return Err("it is a folder".into());
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!("it is not executable; `chmod +x {}` makes it so", file.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_as_exec_does() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("tool");
        let (name, path) = (OsStr::new("tool"), Some(folder.path().as_os_str()));
        assert!(find(name, path).expect_err("absent").contains("in no folder of $PATH"));
        fs::write(&file, "#!/bin/sh\n").expect("write");
        assert!(find(name, path).expect_err("plain file").contains("chmod +x"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("chmod");
        find(name, path).expect("by name");
        find(file.as_os_str(), None).expect("by path");
        assert!(find(folder.path().as_os_str(), None).expect_err("folder").contains("is a folder"));
        assert!(find(OsStr::new("./no/such"), path).expect_err("absent").contains("no such file"));
    }
}
