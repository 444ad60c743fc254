//! Sandboxes from image layouts: what of an image holds, and what keeps one out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cases::cases;
use crate::roles::Test;
use crate::sandboxed::Sandbox;

cases! {
    ALL []: what_the_image_says, what_the_person_says, unpacked_once, a_swapped_layer,
        a_digest_is_needed, one_root;
}

/// An image layout with one layer: the probe as /bin/probe, and a file.
struct Layout {
    dir: PathBuf,
    layer: PathBuf,
    digest: String,
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Layout {
    fn new(test: &Test, dir: &Path) -> Self {
        let (tree, dir) = (dir.join("tree"), dir.join("layout"));
        for path in ["bin", "etc", "srv"] {
            make(&tree.join(path));
        }
        let copied = fs::copy(&test.machine.probe, tree.join("bin/probe"));
        copied.unwrap_or_else(|e| panic!("{e}"));
        write(&tree.join("srv/file"), b"from the image\n");
        write(
            &tree.join("etc/passwd"),
            b"root:x:0:0::/:/\napp:x:4711:4712::/srv:/\n",
        );
        make(&dir.join("blobs/sha256"));
        let tar = Command::new("tar")
            .args(["--numeric-owner", "-C"])
            .arg(&tree)
            .args(["-cf", "-", "."])
            .output()
            .unwrap_or_else(|e| panic!("tar: {e}"));
        let architecture = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        let config = json!({
            "os": "linux",
            "architecture": architecture,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&tar.stdout))] },
            "config": {
                "Entrypoint": ["/bin/probe"],
                "Cmd": ["cat", "file"],
                "Env": ["PATH=/bin", "OF_THE_IMAGE=1"],
                "WorkingDir": "/srv",
                "User": "app"
            }
        });
        let blob = |bytes: &[u8], kind: &str| -> Value {
            let digest = digest(bytes);
            write(&dir.join("blobs/sha256").join(&digest), bytes);
            json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": format!("sha256:{digest}"),
                "size": bytes.len()
            })
        };
        let layer = blob(&tar.stdout, "layer.v1.tar");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob(config.to_string().as_bytes(), "config.v1+json"),
            "layers": [layer]
        });
        let manifest = blob(manifest.to_string().as_bytes(), "manifest.v1+json");
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        write(&dir.join("index.json"), index.to_string().as_bytes());
        write(
            &dir.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        );
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            layer: dir
                .join("blobs/sha256")
                .join(text(&layer["digest"]).trim_start_matches("sha256:")),
            digest: text(&manifest["digest"]),
            dir,
        }
    }

    fn pinned(&self) -> String {
        format!("{}@{}", self.dir.display(), self.digest)
    }
}

fn make(dir: &Path) {
    fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
}

fn write(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

/// A sandbox of an image; its cache is the test's own.
fn of(test: &Test) -> (Sandbox<'_>, Layout) {
    let sandbox = Sandbox::new(test);
    let layout = Layout::new(test, &sandbox.dir);
    let pinned = layout.pinned();
    (sandbox.with(&["--image", &pinned]), layout)
}

fn what_the_image_says(test: &Test) {
    let (sandbox, _) = of(test);
    let done = sandbox.run(&[]).success();
    assert_eq!(done.stdout, "from the image\n");
    assert_eq!(done.stderr, "", "a line of progress, and no terminal");
    let report = sandbox.run(&["/bin/probe", "report"]).success().json();
    assert_eq!(report["cwd"], "/srv");
    assert_eq!(report["uids"][0], 4711, "the user of the image");
    assert_eq!(
        sandbox
            .run(&["probe", "env", "OF_THE_IMAGE"])
            .success()
            .text(),
        "OF_THE_IMAGE=1"
    );
    // It is for the next one too.
    let refused = sandbox.run(&["probe", "write", "/srv/file", "x"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(sandbox.run(&[]).success().stdout, "from the image\n");
}

fn what_the_person_says(test: &Test) {
    let (sandbox, _) = of(test);
    let sandbox = sandbox.with(&[
        "--env",
        "OF_THE_IMAGE=2",
        "--user",
        "7:8",
        "--chdir",
        "/etc",
    ]);
    assert_eq!(
        sandbox
            .run(&["probe", "env", "OF_THE_IMAGE"])
            .success()
            .text(),
        "OF_THE_IMAGE=2"
    );
    let report = sandbox.run(&["probe", "report"]).success().json();
    assert_eq!(report["cwd"], "/etc");
    assert_eq!(
        (&report["uids"][0], &report["gids"][0]),
        (&json!(7), &json!(8))
    );
}

fn unpacked_once(test: &Test) {
    let (sandbox, layout) = of(test);
    sandbox.run(&[]).success();
    fs::remove_file(&layout.layer).unwrap_or_else(|e| panic!("{e}"));
    sandbox.run(&[]).success();
}

/// The bytes changed after the digest was written down.
fn a_swapped_layer(test: &Test) {
    let (sandbox, layout) = of(test);
    let mut bytes = fs::read(&layout.layer).unwrap_or_else(|e| panic!("{e}"));
    let at = bytes
        .windows(4)
        .position(|part| part == b"from")
        .unwrap_or_default();
    bytes[at] = b'F';
    write(&layout.layer, &bytes);
    let output = sandbox.run(&[]).code(125);
    assert!(!output.stdout.contains("rom the image"), "{output:?}");
    output.says(&["sha256:"]);
    // Nothing of it counts afterwards.
    sandbox.run(&[]).code(125);
}

fn a_digest_is_needed(test: &Test) {
    let (_, layout) = of(test);
    let plain = layout.dir.display().to_string();
    let output = Sandbox::new(test)
        .with(&["--image", &plain])
        .run(&[])
        .code(125);
    // To be looked at and copied.
    output.says(&[&layout.digest]);
}

fn one_root(test: &Test) {
    let (sandbox, _) = of(test);
    let output = sandbox.with(&["--rootfs", "/"]).sh("true").code(125);
    output.says(&["--image and --rootfs"]);
    let output = Sandbox::new(test).run(&[]).code(125);
    output.says(&["no program is given"]);
}
