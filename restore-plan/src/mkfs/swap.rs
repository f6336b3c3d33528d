//! mkswap.

use node_model::Swap;

use super::{CannotMake, Place, call, checked_label, checked_uuid};
use crate::step::ToolCall;

/// The tool that makes a swap area.
pub(crate) fn swap_commands(swap: &Swap, place: Place) -> Result<Vec<ToolCall>, CannotMake> {
    let page = swap.page_size_bytes;
    if !page.is_power_of_two() || !(4096..=65536).contains(&page) {
        return Err(CannotMake(format!("its pages have {page} bytes")));
    }
    if swap.size_bytes > place.size || swap.size_bytes.get() < 10 * page {
        return Err(CannotMake(format!("it has {} bytes, its partition {}", swap.size_bytes.get(), place.size.get())));
    }
    let uuid = swap.uuid.as_deref().map(checked_uuid).transpose()?.unwrap_or("clear");
    let mut args: Vec<String> = ["-q", "-p", &page.to_string(), "-U", uuid].map(str::to_owned).to_vec();
    if let Some(label) = &swap.label {
        args.extend(["-L".to_owned(), checked_label(label, 16)?.to_owned()]);
    }
    let mut make = call("mkswap", args);
    make.args.push((swap.size_bytes.get() / 1024).to_string());
    Ok(vec![make])
}
