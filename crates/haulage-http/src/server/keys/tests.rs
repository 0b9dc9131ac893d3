use std::os::unix::fs::PermissionsExt as _;

use std::time::Duration;

use super::*;

fn write(path: &Path, key: Key) {
    KeyFile::change(path, |keys| {
        keys.push(key);
        Ok(())
    })
    .expect("write");
}

#[test]
fn a_secret_finds_its_key_and_is_not_in_the_file() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("keys.json");
    let bulk: QueueName = "bulk".parse().expect("a name");
    let scopes = vec![Scope::Read, Scope::Submit, Scope::Read];
    let (key, secret) = Key::create("web", scopes, vec![bulk.clone()], None).expect("a key");
    write(&path, key.clone());
    let text = fs::read_to_string(&path).expect("read");
    assert!(!text.contains(&secret) && text.contains(&key.hash), "{text}");
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
    let file = KeyFile::open(&path).expect("open");
    let now = Clock::system().now();
    let found = file.identify(&secret, now).expect("the key");
    assert_eq!(found.name.as_deref(), Some("web"));
    assert!(found.may(&[Scope::Submit]) && !found.may(&[Scope::Work, Scope::Operate]));
    assert!(found.need_queues([&bulk]).is_ok() && found.need_queues([&QueueName::default()]).is_err());
    assert!(file.identify(&format!("{secret}0"), now).is_none());
    assert!(file.identify(&key.hash, now).is_none(), "what the file has is not a secret");
    assert!(file.identify("", now).is_none());
}

#[test]
fn a_key_ends_with_its_time_and_when_it_is_taken_out() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("keys.json");
    let now = Clock::system().now();
    let end = now.after(Duration::from_secs(60));
    let (short, secret) = Key::create("short", vec![Scope::Read], vec![], Some(end)).expect("a key");
    write(&path, short);
    let file = KeyFile::open(&path).expect("open");
    assert!(file.identify(&secret, now).is_some());
    assert!(file.identify(&secret, end).is_none(), "its time is over");
    KeyFile::change(&path, |keys| {
        keys.clear();
        Ok(())
    })
    .expect("write");
    assert!(file.identify(&secret, now).is_none(), "it was taken out");
    let (next, secret) = Key::create("next", vec![Scope::Read], vec![], None).expect("a key");
    write(&path, next);
    assert!(file.identify(&secret, now).is_some(), "it holds at once");
}

#[test]
fn a_file_that_is_broken_locks_nobody_out_who_is_in() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("keys.json");
    let (key, secret) = Key::create("web", vec![Scope::Read], vec![], None).expect("a key");
    write(&path, key);
    let file = KeyFile::open(&path).expect("open");
    let now = Clock::system().now();
    fs::write(&path, "{").expect("write");
    assert!(file.identify(&secret, now).is_some());
    assert!(KeyFile::open(&path).is_err(), "a server does not start with it");
    fs::remove_file(&path).expect("remove");
    assert!(file.identify(&secret, now).is_some());
    assert!(KeyFile::open(&path).is_err(), "nor without it");
    write(&path, Key::create("web", vec![Scope::Read], vec![], None).expect("a key").0);
    assert!(file.identify(&secret, now).is_none(), "it is read again");
}

#[test]
fn a_file_keeps_its_owner_and_its_permissions() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("keys.json");
    let key = || Key::create("web", vec![Scope::Read], vec![], None).expect("a key").0;
    write(&path, key());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    // Only root may give a file away, as who changes that of a server would.
    let is_root = fs::metadata(&path).expect("there").uid() == 0;
    let owner = if is_root { Some(4711) } else { None };
    std::os::unix::fs::chown(&path, owner, owner).expect("chown");
    let before = fs::metadata(&path).expect("there");
    write(&path, key());
    let now = fs::metadata(&path).expect("there");
    assert_ne!(now.ino(), before.ino(), "it was replaced");
    assert_eq!(
        (now.uid(), now.gid(), now.mode() & 0o777),
        (before.uid(), before.gid(), 0o640),
        "the server still reads it"
    );
}

#[test]
fn what_is_no_key_is_refused() {
    let create = |name: &str, scopes| Key::create(name, scopes, vec![], None);
    assert!(create("", vec![Scope::Read]).is_err());
    assert!(create("two\nlines", vec![Scope::Read]).is_err());
    assert!(create("web", vec![]).is_err());
    assert!(
        "admin".parse::<Scope>().expect_err("no scope").to_string().contains("submit, read, work, operate")
    );
}
