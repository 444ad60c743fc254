//! Mount points that become links while the runtime works on them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::escapes::{listing, outside};
use crate::roles::Test;
use crate::runtime::Running;

cases! {
    ALL []: cve_2021_30465, cve_2024_45310;
}

/// How often something is mounted meanwhile, in each role.
const ATTEMPTS: u32 = 1000;

/// How many mounts each container has. The first that is refused is its last.
const MOUNTS: u32 = 4;

/// A volume of two containers, in which a directory and a link to the host change
/// places without end.
struct Swapped {
    volume: PathBuf,
    outside: PathBuf,
    swapping: Running,
}

fn swapped(test: &Test) -> Swapped {
    let outside = outside(test);
    let volume = test.path("volume");
    test.make_dir(&volume);
    test.make_dir(&volume.join("d"));
    let (directory, link) = (volume.join("d"), volume.join("link"));
    let made = std::os::unix::fs::symlink(&outside, &link);
    assert!(made.is_ok(), "{made:?}");
    let words = [
        "swap",
        &directory.display().to_string(),
        &link.display().to_string(),
    ];
    let mut swapping = test.probe(&words).start();
    swapping.wait_for("READY");
    Swapped {
        volume,
        outside,
        swapping,
    }
}

/// The mounts of this namespace, without those of other tests.
fn mounts(below: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = below.display().to_string();
    table.lines().filter(|line| line.contains(&below)).count()
}

/// Starts containers with these mounts below the volume until one gets out.
fn race(test: &Test, below: &str, kinds: [&str; 2]) {
    let mut swapped = swapped(test);
    let before = listing(&swapped.outside);
    let volume = swapped.volume.display().to_string();
    let canary = swapped.outside.join("canary").display().to_string();
    let (mut attempt, mut started, mut refused) = (0u32, 0u32, 0u32);
    while attempt < ATTEMPTS {
        let mut bundle = Bundle::new(test).args(&["try-open", &canary]).mount(json!({
            "destination": "/var", "type": "bind", "source": volume, "options": ["bind"]
        }));
        for number in 0..MOUNTS {
            let number = (attempt + number).to_string();
            let place = format!("/var/d/{}", below.replace('#', &number));
            bundle = bundle.mount(match kinds[(started + refused) as usize % 2] {
                "bind" => {
                    json!({ "destination": place, "type": "bind", "source": volume, "options": ["bind"] })
                }
                other => json!({ "destination": place, "type": other, "source": other }),
            });
        }
        let output = bundle.run();
        holds!(output.text() != "ok", "the canary was read: {output:?}");
        // Of those after the one that was refused nobody knows: none is counted.
        match output.code {
            1 if output.text() == "ENOENT" => (attempt, started) = (attempt + MOUNTS, started + 1),
            1 => (attempt, refused) = (attempt + 1, refused + 1),
            _ => output.fail("a container, or none"),
        }
        holds!(
            listing(&swapped.outside) == before,
            "attempt {attempt}: {} changed",
            swapped.outside.display()
        );
        holds!(
            mounts(&swapped.outside) == 0,
            "attempt {attempt}: something is mounted on {}",
            swapped.outside.display()
        );
        bundle.assert_nothing_left();
    }
    swapped.swapping.stop();
    assert!(started > 0, "{started} started, {refused} refused");
}

/// The mount point is there, in a directory that changes.
fn cve_2021_30465(test: &Test) {
    race(test, "", ["tmpfs", "bind"]);
}

/// The mount point is missing, and is made.
fn cve_2024_45310(test: &Test) {
    race(test, "new-#", ["tmpfs", "bind"]);
}
