//! Commands: they act on the existing instance, never create another one, and say what to do instead.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::Output,
};

use crate::{
    canary::Canary,
    client::Request,
    instance::{Instance, eventually, free_addresses, program, run},
    places,
    skips::skipped,
};

/// A folder with the project's own configuration and policy, as a checkout has them.
fn checkout() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = places::project();
    fs::create_dir(dir.path().join("policies")).unwrap();
    for file in ["config.toml", "policies/worker.toml"] {
        fs::copy(root.join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn in_folder(dir: &Path, args: &[&str]) -> Output {
    program().args(args).current_dir(dir).output().unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_command_without_an_instance_fails_and_creates_nothing() {
    let dir = checkout();
    for args in [
        &["user", "add", "eve"][..],
        &["user", "list"],
        &["key", "create"],
        &["key", "revoke", "x"],
        &["token", "issue"],
        &["link", "create", "/api/stream/a.mp4"],
        &["link", "rotate"],
        &["ban", "list"],
        &["certificate", "create", "--user", "eve", "--out", "eve.p12"],
    ] {
        let said = complaint(&in_folder(dir.path(), args));
        let path = dir.path().canonicalize().unwrap();
        assert!(said.contains(&format!("sallyport init --dir {}", path.display())), "{args:?}: {said}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn init_creates_the_instance_of_an_existing_configuration_and_commands_act_on_its_gateway() {
    let canary = Canary::start();
    let dir = checkout();
    let [tls, plain, admin] = free_addresses();
    let config = dir.path().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text =
        text.replace("[\"[::]:8443\"]", &format!("[\"{tls}\"]")).replace("[\"[::]:8080\"]", &format!("[\"{plain}\"]"));
    let text = text.replace("127.0.0.1:9901", &admin.to_string());
    let text = text.replace("upstream = \"127.0.0.1:8001\"", &format!("upstream = \"{}\"", canary.address));
    fs::write(&config, &text).unwrap();
    let made = in_folder(dir.path(), &["init", "--json"]);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(fs::read_to_string(&config).unwrap(), text, "the configuration is unchanged");
    let made = serde_json::from_slice(&made.stdout).unwrap();
    assert!(complaint(&in_folder(dir.path(), &["init"])).contains("already contains an instance"));
    for option in [["--domain", "home.example"].as_slice(), &["--app", "worker", "--upstream", "127.0.0.1:9"]] {
        assert!(complaint(&in_folder(dir.path(), &[&["init"], option].concat())).contains("Nothing was changed"));
    }
    let mut i = Instance { dir, tls, plain, admin, made, child: None };
    i.start_role("gateway");
    let eve = in_folder(i.dir.path(), &["user", "add", "eve"]);
    assert!(eve.status.success(), "{eve:?}");
    let key = in_folder(i.dir.path(), &["key", "create", "--user", "eve", "--json"]);
    let key: serde_json::Value = serde_json::from_slice(&key.stdout).unwrap();
    let request = Request::new("GET", "/api/downloads").key(key["key"].as_str().unwrap());
    assert_eq!(i.send(&request).status, 200, "the running gateway accepts the new user at once");
}

#[test]
fn a_command_never_creates_a_secret() {
    let canary = Canary::start();
    let secret = "a secret of the environment, 32 bytes or more";
    let mut i = Instance::made(&["--app", "worker", "--upstream", &canary.address.to_string()]);
    for (name, command) in [
        ("jwt.key", &["token", "issue"][..]),
        ("link.keys", &["link", "create", "/api/stream/a.mp4"]),
        ("offlinetube.key", &["link", "create", "/api/stream/a.mp4", "--style", "offlinetube"]),
    ] {
        let path = i.path("data/secrets").join(name);
        fs::remove_file(&path).unwrap();
        let said = complaint(&i.output(command));
        assert!(said.contains(name), "{name}: {said}");
        assert!(!path.exists(), "{name}");
    }
    let child = i.spawn("gateway", &[("JWT_SECRET_KEY", secret)]);
    i.adopt(child);
    eventually("the gateway", || std::net::TcpStream::connect(i.tls).ok());
    let config = i.path("config.toml");
    let issue = || {
        let mut command = program();
        command.args(["token", "issue", "--json", "--config"]).arg(&config);
        command
    };
    assert!(complaint(&issue().output().unwrap()).contains("JWT_SECRET_KEY"));
    let issued = issue().env("JWT_SECRET_KEY", secret).output().unwrap();
    let token: serde_json::Value = serde_json::from_slice(&issued.stdout).unwrap();
    let status = || i.send(&Request::new("GET", "/api/downloads").bearer(token["token"].as_str().unwrap())).status;
    assert_eq!(status(), 200);
    i.command(&["key", "create"]);
    assert_eq!(status(), 200, "nothing has replaced the secret");
    assert!(!i.path("data/secrets/jwt.key").exists());
}

#[test]
fn a_database_that_is_deleted_or_replaced_under_a_gateway_is_reported_and_the_old_state_stays_in_force() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let status = || i.send(&Request::new("GET", "/api/downloads").key(i.key())).status;
    let database = i.path("data/state.db");
    let kept = i.path("data/kept");
    fs::rename(&database, &kept).unwrap();
    eventually("a report", || i.stderr().contains("commands do not reach this gateway").then_some(()));
    let said = complaint(&i.output(&["key", "create"]));
    assert!(said.contains("restore the file from a backup"), "{said}");
    assert!(!database.exists(), "a command creates no new database");
    assert_eq!(status(), 200);
    fs::copy(&kept, &database).unwrap();
    let said = complaint(&i.output(&["key", "create"]));
    assert!(said.contains("the running gateway could not be notified"), "this key opens nothing: {said}");
    assert_eq!(status(), 200);
    assert_eq!(i.stderr().matches("commands do not reach this gateway").count(), 1, "once is enough");
    fs::rename(&kept, &database).unwrap();
    eventually("the report of its return", || i.stderr().contains("is back in place").then_some(()));
    i.command(&["key", "create"]);
}

#[test]
fn a_key_that_could_not_be_used_for_anything_is_refused() {
    let i = Instance::made(&[]);
    for (args, words) in [
        (&["key", "create", "--scope", "download:read"][..], "did you mean \"downloads:read\"?"),
        (&["key", "create", "--scope", "everything"], "media:read"),
        (&["key", "create", "--scope", ""], "--scope is empty"),
        (&["key", "create", "--expires", "0s"], "at least \"1s\""),
        (&["key", "create", "--expires", "40000d"], "a hundred years"),
        (&["token", "issue", "--scope", "media:raed"], "did you mean \"media:read\"?"),
        (&["token", "issue", "--expires", "0s"], "at least \"1s\""),
    ] {
        let said = complaint(&i.output(args));
        assert!(said.contains(words), "{args:?}: {said}");
    }
    for scope in ["links:write", "admin", "media:read", "*"] {
        i.new_key(&["--scope", scope]);
    }
}

#[test]
fn files_that_root_rewrites_keep_their_owner() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can give files away");
        return;
    }
    let i = Instance::made(&[]);
    let keys = i.path("data/secrets/link.keys");
    let folder = i.path("data/secrets");
    for path in [&keys, &folder] {
        chown(path, Some(65_534), Some(65_534)).unwrap();
    }
    let before = fs::read(&keys).unwrap();
    let owner = || fs::metadata(&keys).map(|m| (m.uid(), m.gid(), m.mode() & 0o777)).unwrap();
    i.command(&["link", "rotate"]);
    assert_ne!(fs::read(&keys).unwrap(), before);
    assert_eq!(owner(), (65_534, 65_534, 0o600));
    fs::remove_file(&keys).unwrap();
    i.command(&["link", "rotate"]);
    assert_eq!(owner(), (65_534, 65_534, 0o600), "a new file belongs to the folder's owner");
}

#[test]
fn a_certificate_with_a_bare_file_name_is_created_completely_or_not_at_all() {
    let i = Instance::made(&[]);
    let config = i.path("config.toml");
    let create = |dir: &Path, out: &str| {
        in_folder(
            dir,
            &["certificate", "create", "--user", "admin", "--out", out, "--config", config.to_str().unwrap()],
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let made = create(dir.path(), "ana.p12");
    assert!(made.status.success(), "{made:?}");
    assert!(dir.path().join("ana.p12").exists() && dir.path().join("ana.pem").exists());
    let said = complaint(&create(dir.path(), "nowhere/ben.p12"));
    assert!(said.contains("nowhere/ben.p12"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn help_and_the_configuration_may_come_first() {
    let i = Instance::made(&[]);
    let config = i.path("config.toml");
    for args in [&["help"][..], &["help", "key"], &["help", "key", "create"], &["--help"]] {
        assert_eq!(run(args).status.code(), Some(0), "{args:?}");
    }
    let config = config.to_str().unwrap();
    for args in [
        &["--config", config, "user", "list"][..],
        &["user", "--config", config, "list"],
        &["--config", config, "check"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    }
    assert_eq!(run(&["--config", config, "init"]).status.code(), Some(2), "init has --dir");
    let elsewhere = run(&["--config", "/nonexistent/config.toml", "user", "list"]);
    assert!(complaint(&elsewhere).contains("/nonexistent/config.toml"));
}

#[test]
fn an_init_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new");
    let path = new.to_str().unwrap();
    for (args, words) in [
        (&["--app", "wroker", "--upstream", "127.0.0.1:9"][..], "did you mean \"worker\"?"),
        (&["--app", "mine", "--upstream", "127.0.0.1:9"], "policies/mine.toml"),
        (&["--domain", "https://x"], "not a host name"),
    ] {
        let said = complaint(&run(&[&["init", "--dir", path], args].concat()));
        assert!(said.contains(words), "{args:?}: {said}");
        assert!(!new.exists(), "{args:?}");
    }
    let printed = run(&["init", "--dir", path]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    let real = new.canonicalize().unwrap();
    for command in ["sallyport up", "sallyport trust"] {
        assert!(printed.contains(&format!("{command} --config {}/config.toml", real.display())), "{printed}");
    }
    assert!(!printed.contains("password"), "nothing asks for a password: {printed}");
}
