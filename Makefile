# make          a static binary, its man pages and completions, in target/dist
# make install  puts them below $(DESTDIR)$(PREFIX); needs no compiler
# make deb      a Debian package of it, beside it
# make check    what a change must pass
# make debian-rootfs   a Debian tree for the tests

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d

CARGO ?= cargo
INSTALL ?= install
CARGO_TARGET_DIR ?= target
DIST ?= $(CARGO_TARGET_DIR)/dist
MUSL = $(shell uname -m)-unknown-linux-musl

# `capsid --version` names it; empty outside a git checkout.
COMMIT := $(shell git describe --always --long --dirty 2>/dev/null)
ifneq ($(COMMIT),)
export CAPSID_COMMIT := $(COMMIT)
endif

.PHONY: dist deb check install uninstall clean debian-rootfs
dist:
	@set -e; \
	target=$(MUSL); \
	if ! [ -d "$$(rustc --print target-libdir --target $$target)" ] \
	&& ! rustup target add $$target; then \
		target=$$(rustc --print host-tuple); \
		echo "no $(MUSL) here: building for $$target, which starts a little slower"; \
	fi; \
	$(CARGO) build --locked --release --bin capsid --target $$target; \
	mkdir -p $(DIST); \
	$(INSTALL) -m 0755 $(CARGO_TARGET_DIR)/$$target/release/capsid $(DIST)/capsid
	$(CARGO) run --locked --quiet --example papers -- $(DIST)

deb: dist
	packaging/debian/build $(DIST)

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked

install:
	@[ -x $(DIST)/capsid ] || { echo "run make dist first" >&2; exit 1; }
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 \
		$(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR)
	$(INSTALL) -m 0755 $(DIST)/capsid $(DESTDIR)$(BINDIR)/capsid
	$(INSTALL) -m 0644 $(DIST)/man/man1/*.1 $(DESTDIR)$(MANDIR)/man1
	$(INSTALL) -m 0644 $(DIST)/completions/capsid $(DESTDIR)$(BASHDIR)/capsid
	$(INSTALL) -m 0644 $(DIST)/completions/_capsid $(DESTDIR)$(ZSHDIR)/_capsid
	$(INSTALL) -m 0644 $(DIST)/completions/capsid.fish $(DESTDIR)$(FISHDIR)/capsid.fish

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/capsid $(DESTDIR)$(MANDIR)/man1/capsid.1 \
		$(DESTDIR)$(MANDIR)/man1/capsid-*.1 $(DESTDIR)$(BASHDIR)/capsid \
		$(DESTDIR)$(ZSHDIR)/_capsid $(DESTDIR)$(FISHDIR)/capsid.fish

# A Debian tree for tests, made once; needs root and debootstrap.
debian-rootfs: $(CARGO_TARGET_DIR)/debian-rootfs/usr/bin/dpkg
$(CARGO_TARGET_DIR)/debian-rootfs/usr/bin/dpkg:
	rm -rf $(CARGO_TARGET_DIR)/debian-rootfs $(CARGO_TARGET_DIR)/debian-rootfs.new
	mkdir -p $(CARGO_TARGET_DIR)
	debootstrap --variant=minbase stable $(CARGO_TARGET_DIR)/debian-rootfs.new >/dev/null
	mv $(CARGO_TARGET_DIR)/debian-rootfs.new $(CARGO_TARGET_DIR)/debian-rootfs

clean:
	$(CARGO) clean
