//! What is mounted, and in which order.

use std::path::{Component, Path};

use oci_spec::runtime::Mount;

use super::overlays::STAGE;
use super::skeleton::Entry;
use super::{Bind, Maker, Tmpfs, is_within, mappings};
use crate::error::{Error, Result};

/// How something of the host is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ReadOnly,
    Writable,
}

/// Inside, these are the sandbox's own.
const RESERVED: [&str; 4] = ["/proc", "/dev", "/sys", STAGE];

/// One file for so many bytes: without a limit, empty files fill the kernel's memory.
const BYTES_PER_FILE: u64 = 16_384;

const RUN_SIZE: u64 = 16 << 20;
const SHM_SIZE: u64 = 256 << 20;

/// A bind mount with all that is mounted below it.
pub(super) fn bind(source: &Path, destination: &Path, kind: Kind) -> Mount {
    let access = match kind {
        Kind::ReadOnly => "rro",
        Kind::Writable => "rw",
    };
    mount(
        destination,
        "bind",
        source,
        &["rbind", access, "rnosuid", "rnodev"],
    )
}

pub(super) fn mount(destination: &Path, typ: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.to_owned())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(ToString::to_string).collect()));
    mount
}

impl Maker<'_> {
    /// Every mount, each after the one it is below.
    pub(super) fn mounts(&mut self) -> Result<Vec<Mount>> {
        let mut mounts = self.system();
        self.made_up();
        mounts.extend(self.own());
        let own: Vec<_> = mounts.iter().map(|one| one.destination().clone()).collect();
        let mut given = Vec::new();
        for one in &self.request.tmpfs {
            given.push(self.tmpfs(one)?);
        }
        for one in &self.request.binds {
            given.push(self.bound(one)?);
        }
        for (index, one) in self.request.overlays.iter().enumerate() {
            given.extend(self.overlay(index, one)?);
        }
        for (index, one) in given.iter().enumerate() {
            let same = |other: &Mount| other.destination() == one.destination();
            if given[..index].iter().any(same) {
                return Err(Error::Usage(format!(
                    "{} is given twice",
                    one.destination().display()
                )));
            }
        }
        // Whoever gives a path that is there by default wants the other one.
        mounts.retain(|one| {
            !own.contains(one.destination())
                || given
                    .iter()
                    .all(|other| other.destination() != one.destination())
        });
        mounts.extend(given);
        // Stable: of equal depth the order does not matter.
        mounts.sort_by_key(|one| {
            let path = one.destination();
            (!is_within(path, STAGE), path.components().count())
        });
        Ok(mounts)
    }

    /// procfs, devices and private directories.
    fn own(&mut self) -> Vec<Mount> {
        let quarter = self.quarter();
        let home = self.account.home.clone();
        let plain = ["nosuid", "nodev"];
        let data = ["nosuid", "nodev", "noexec"];
        let pts = [
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
        ];
        let [proc, dev, devpts, shm, run, tmp] =
            ["/proc", "/dev", "/dev/pts", "/dev/shm", "/run", "/tmp"].map(Path::new);
        let mounts = vec![
            mount(proc, "proc", Path::new("proc"), &data),
            self.memory(dev, 1 << 20, "0755", &["nosuid", "noexec", "ro"]),
            mount(devpts, "devpts", Path::new("devpts"), &pts),
            self.memory(shm, SHM_SIZE, "1777", &data),
            self.memory(run, RUN_SIZE, "0755", &plain),
            self.memory(tmp, quarter, "1777", &plain),
            self.memory(&home, quarter, "0700", &plain),
        ];
        for one in &mounts {
            self.skeleton.put(one.destination(), Entry::Directory);
        }
        // For programs that insist on it.
        let links = [("/var/tmp", "/tmp"), ("/var/run", "/run")];
        for (path, target) in links {
            self.skeleton
                .put(Path::new(path), Entry::Link(target.into()));
        }
        self.note_own(quarter);
        mounts
    }

    /// A quarter of the machine's memory: what one private directory may hold.
    pub(super) fn quarter(&self) -> u64 {
        (self.userland.memory / 4).max(16 << 20)
    }

    fn note_own(&mut self, quarter: u64) {
        let (home, size) = (self.account.home.display(), quarter >> 20);
        self.note(
            format!("{home} and /tmp: empty, private, in memory, {size} MiB each"),
            "keys and settings of the caller stay out of reach, and nothing stays behind",
        );
        self.note(
            "/dev with null, zero, full, random, urandom, tty, its own pts and shm",
            "no device of the machine is of use to a program that is not trusted",
        );
        self.note(
            "/proc with its own processes",
            "those of the host are not there",
        );
    }

    /// A tmpfs that belongs to the program.
    pub(super) fn memory(
        &self,
        destination: &Path,
        size: u64,
        mode: &str,
        options: &[&str],
    ) -> Mount {
        let files = (size / BYTES_PER_FILE).max(256);
        let settings = [
            format!("mode={mode}"),
            format!("size={size}"),
            format!("nr_inodes={files}"),
            format!("uid={}", self.account.uid),
            format!("gid={}", self.account.gid),
        ];
        let settings = settings.iter().map(String::as_str);
        let all: Vec<&str> = options.iter().copied().chain(settings).collect();
        mount(destination, "tmpfs", Path::new("tmpfs"), &all)
    }

    fn tmpfs(&mut self, one: &Tmpfs) -> Result<Mount> {
        self.place(&one.destination, "--tmpfs", Entry::Directory)?;
        let size = one.size.unwrap_or(self.quarter());
        Ok(self.memory(&one.destination, size, "0755", &["nosuid", "nodev"]))
    }

    fn bound(&mut self, one: &Bind) -> Result<Mount> {
        let (option, kind) = match one.writable {
            true => ("--rw", Kind::Writable),
            false => ("--ro", Kind::ReadOnly),
        };
        let entry = match one.directory {
            true => Entry::Directory,
            false => Entry::File(String::new()),
        };
        self.place(&one.destination, option, entry)?;
        let mut mount = bind(&one.source, &one.destination, kind);
        self.map_owner(&mut mount, one);
        Ok(mount)
    }

    /// Root's sandbox runs as a user of its own: what belongs to the owner of
    /// the given path belongs to that user inside.
    pub(super) fn map_owner(&self, mount: &mut Mount, one: &Bind) {
        if self.account.idmaps && one.idmap {
            let (uid, gid) = self.account.outside;
            mount
                .set_uid_mappings(Some(mappings(&[(one.owner.0, uid, 1)])))
                .set_gid_mappings(Some(mappings(&[(one.owner.1, gid, 1)])));
        }
    }

    /// The same for a layer, in which the kernel works as whoever mounts it, the
    /// root of the sandbox: as nobody on the disk.
    pub(super) fn map_layer(&self, mount: &mut Mount, one: &Bind) {
        const NOBODY: u32 = 65_534;
        if self.account.idmaps && one.idmap && one.owner != (NOBODY, NOBODY) {
            let ((uid, gid), base) = (self.account.outside, self.account.uid_maps[0].1);
            let list = |owner, id| mappings(&[(owner, id, 1), (NOBODY, base, 1)]);
            mount
                .set_uid_mappings(Some(list(one.owner.0, uid)))
                .set_gid_mappings(Some(list(one.owner.1, gid)));
        }
    }

    /// Makes the mount point of something that was given, where it may be.
    pub(super) fn place(&mut self, path: &Path, option: &str, entry: Entry) -> Result<()> {
        let refuse = |why: String| Err(Error::Usage(format!("{option} {}: {why}", path.display())));
        let plain = path
            .components()
            .skip(1)
            .all(|part| matches!(part, Component::Normal(_)));
        if !path.is_absolute() || !plain {
            return refuse("the path inside begins with / and has no .. in it".into());
        }
        if path == Path::new("/") {
            return refuse("the root itself cannot be replaced; give a path below it".into());
        }
        if let Some(own) = RESERVED.iter().find(|own| is_within(path, own)) {
            return refuse(format!("{own} is the sandbox's own"));
        }
        if path.components().count() > 64 {
            return refuse("more than 64 directories deep".into());
        }
        if let Some(link) = self.skeleton.link_above(path) {
            return refuse(format!(
                "/{} is a link inside; give the path it leads to",
                link.display()
            ));
        }
        // Where something else is mounted above it, that hides this one.
        self.skeleton.put(path, entry);
        Ok(())
    }
}
