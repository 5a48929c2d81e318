//! A raw packet socket on a Linux interface (AF_PACKET, see packet(7)).
//!
//! With `table/memory.rs` the only place of the project with `unsafe` code: the socket options and the control messages
//! that carry offload state, stripped VLAN tags and times have no safe wrapper. It knows nothing of what
//! the frames mean; `offload` does.
#![allow(
    unsafe_code,
    reason = "AF_PACKET options and PACKET_AUXDATA have no safe wrapper"
)]

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::offload::{VNET_HEADER, VnetHeader};

/// The longest frame a packet socket hands over: a 64 KiB segment with its headers.
pub const MAX_FRAME: usize = 65_536 + 128;

// Not in every libc crate version: linux/if_packet.h.
const PACKET_IGNORE_OUTGOING: c_int = 23;

/// A frame's side information.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameInfo {
    /// Offload state as the kernel gave it.
    pub vnet: VnetHeader,
    /// A VLAN tag that the kernel took out of the frame: TPID and TCI.
    pub vlan: Option<(u16, u16)>,
    /// Bytes of the frame.
    pub length: usize,
    /// When it came, by the machine's clock, since 1970; absent where the kernel does not say.
    pub came: Option<Duration>,
}

impl FrameInfo {
    /// How long it has waited; nothing, if that cannot be: clocks are set.
    pub fn waited(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let waited = now
            .zip(self.came)
            .and_then(|(now, came)| now.checked_sub(came));
        waited
            .filter(|waited| *waited < A_MINUTE)
            .unwrap_or_default()
    }
}

/// Nothing waits for longer.
const A_MINUTE: Duration = Duration::from_secs(60);

/// A bound, non-blocking, promiscuous raw socket.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn set_option<T>(fd: &OwnedFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call; the kernel only reads it.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast::<c_void>(),
            size_of::<T>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// The index of an interface, or the system's error when there is none of that name.
pub fn interface_index(name: &str) -> io::Result<c_int> {
    let c_name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `c_name` is a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
    if index == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(index as c_int)
    }
}

impl PacketSocket {
    /// Opens a socket that sees every frame arriving at `interface` and none that leaves it.
    ///
    /// # Errors
    /// Without CAP_NET_RAW `PermissionDenied`; for an unknown interface the system's ENODEV.
    pub fn open(interface: &str) -> io::Result<Self> {
        let index = interface_index(interface)?;
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // Protocol 0 until bound: else frames of other interfaces queue up between socket() and bind().
        // SAFETY: no pointers are passed.
        let raw = check(unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            )
        })?;
        // SAFETY: `raw` was just returned by socket() and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let one: c_int = 1;
        set_option(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &one)?;
        set_option(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &one)?;
        set_option(&fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &one)?;
        set_option(&fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &one)?;
        // A burst of a whole window must fit while the switch is busy elsewhere. FORCE needs CAP_NET_ADMIN; the plain one is a fall-back.
        let buffer: c_int = 16 << 20;
        if set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &buffer).is_err() {
            set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &buffer)?;
        }
        // SAFETY: sockaddr_ll is plain data for which all zeros is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index;
        // SAFETY: the pointer and length describe `address`, which outlives the call.
        check(unsafe {
            libc::bind(
                fd.as_raw_fd(),
                std::ptr::from_ref(&address).cast::<libc::sockaddr>(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        // SAFETY: packet_mreq is plain data for which all zeros is valid.
        let mut membership: libc::packet_mreq = unsafe { zeroed() };
        membership.mr_ifindex = index;
        membership.mr_type = libc::PACKET_MR_PROMISC as u16;
        set_option(
            &fd,
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            &membership,
        )?;
        Ok(Self { fd })
    }

    /// Receives one frame into `buffer` (at least [`MAX_FRAME`] bytes); `None` when there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<FrameInfo>> {
        let mut vnet = [0u8; VNET_HEADER];
        let mut control = [0u64; 16];
        let mut parts = [
            libc::iovec {
                iov_base: vnet.as_mut_ptr().cast(),
                iov_len: vnet.len(),
            },
            libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            },
        ];
        // SAFETY: msghdr is plain data for which all zeros is valid.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len();
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<[u64; 16]>();
        // SAFETY: every pointer in `message` describes a live buffer of the stated length.
        let received = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut message, 0) };
        if received < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        let mut info = FrameInfo {
            vnet: VnetHeader::parse(&vnet),
            vlan: None,
            length: (received as usize)
                .saturating_sub(VNET_HEADER)
                .min(buffer.len()),
            came: None,
        };
        // SAFETY: recvmsg filled `message`; the CMSG macros stay inside msg_control of msg_controllen bytes.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_PACKET
                    && (*header).cmsg_type == libc::PACKET_AUXDATA
                {
                    let aux: libc::tpacket_auxdata =
                        std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                    if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        let tpid = if aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
                            aux.tp_vlan_tpid
                        } else {
                            0x8100
                        };
                        info.vlan = Some((tpid, aux.tp_vlan_tci));
                    }
                }
                if (*header).cmsg_level == libc::SOL_SOCKET
                    && (*header).cmsg_type == libc::SCM_TIMESTAMPNS
                {
                    let came: libc::timespec =
                        std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                    info.came = (u64::try_from(came.tv_sec).ok())
                        .zip(u32::try_from(came.tv_nsec).ok())
                        .map(|(seconds, nanos)| Duration::new(seconds, nanos));
                }
                header = libc::CMSG_NXTHDR(&message, header);
            }
        }
        Ok(Some(info))
    }

    /// Sends one finished frame; `WouldBlock` when the interface's queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let vnet = [0u8; VNET_HEADER];
        let parts = [
            libc::iovec {
                iov_base: vnet.as_ptr().cast_mut().cast(),
                iov_len: vnet.len(),
            },
            libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            },
        ];
        // SAFETY: both parts describe live buffers; writev only reads them.
        let sent =
            unsafe { libc::writev(self.fd.as_raw_fd(), parts.as_ptr(), parts.len() as c_int) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The flags of `interface` (IFF_UP and the like), if it is in the system's list.
pub fn interface_flags(interface: &str) -> Option<libc::c_uint> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the result, which is freed below.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return None;
    }
    let mut found = None;
    let mut entry = list;
    // SAFETY: getifaddrs made a list that ends with a null pointer; names are NUL-terminated.
    unsafe {
        while !entry.is_null() && found.is_none() {
            let item = &*entry;
            if std::ffi::CStr::from_ptr(item.ifa_name).to_bytes() == interface.as_bytes() {
                found = Some(item.ifa_flags);
            }
            entry = item.ifa_next;
        }
        libc::freeifaddrs(list);
    }
    found
}

/// The addresses that the host itself has on `interface`, as text; a switch port should have none.
pub fn host_addresses(interface: &str) -> Vec<String> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the result, which is freed below.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut entry = list;
    // SAFETY: getifaddrs made a list that ends with a null pointer; names are NUL-terminated, and
    // ifa_addr, where not null, points to a sockaddr of the family it states.
    unsafe {
        while !entry.is_null() {
            let item = &*entry;
            if std::ffi::CStr::from_ptr(item.ifa_name).to_bytes() == interface.as_bytes()
                && !item.ifa_addr.is_null()
            {
                match c_int::from((*item.ifa_addr).sa_family) {
                    libc::AF_INET => {
                        let address: libc::sockaddr_in =
                            std::ptr::read_unaligned(item.ifa_addr.cast());
                        found.push(
                            std::net::Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr))
                                .to_string(),
                        );
                    }
                    libc::AF_INET6 => {
                        let address: libc::sockaddr_in6 =
                            std::ptr::read_unaligned(item.ifa_addr.cast());
                        found.push(std::net::Ipv6Addr::from(address.sin6_addr.s6_addr).to_string());
                    }
                    _ => {}
                }
            }
            entry = item.ifa_next;
        }
        libc::freeifaddrs(list);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_waited_since_it_came_unless_the_clock_was_set_meanwhile() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let waited = |came| {
            let info = FrameInfo {
                came,
                ..FrameInfo::default()
            };
            info.waited()
        };
        let second = Duration::from_secs(1);
        assert!((second..2 * second).contains(&waited(Some(now - second))));
        for came in [None, Some(now + 9 * second), Some(now - 90 * second)] {
            assert_eq!(waited(came), Duration::ZERO);
        }
    }
}
