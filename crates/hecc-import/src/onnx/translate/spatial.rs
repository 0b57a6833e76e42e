//! Operators on images: convolutions, averages over windows, normalization.

use std::fmt::Write as _;

use super::super::ImportError;
use super::super::names::{shown, word};
use super::super::proto::Node;
use super::attributes::Attributes;
use super::{
    INSTANCES, MOST_GROUPS, Made, Result, Statement, Translator, Value, like, node_name, number,
    reshaped, unsupported,
};

impl<'a> Translator<'a> {
    /// An image: channels, height and width.
    pub(super) fn image(&mut self, node: &'a Node) -> Result<(Value, [usize; 3])> {
        let x = self.tensor(node, 0)?;
        match (x.batched, x.shape.as_slice()) {
            (true, &[c, h, w]) => Ok((x, [c, h, w])),
            (false, &[n, _, _, _]) => Err(unsupported(
                node,
                format!("the extent of the axis of instances is fixed at {n}"),
                "export the model with a first axis of symbolic extent, or of extent 1",
            )),
            _ => Err(unsupported(
                node,
                format!("its operand has {} axes", x.rank()),
                "images have four: instances, channels, height, width; give a signal a height of 1 and the kernel, too",
            )),
        }
    }

    pub(super) fn conv(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(
            node,
            &[
                "auto_pad",
                "dilations",
                "group",
                "kernel_shape",
                "pads",
                "strides",
            ],
        )?;
        let (x, [channels, h, w]) = self.image(node)?;
        let kernel = self.tensor(node, 1)?;
        let &[maps, depth, kh, kw] = kernel.shape.as_slice() else {
            return Err(unsupported(
                node,
                format!("its kernel has shape {:?}", kernel.shape),
                "a kernel has four axes: maps, channels, height, width",
            ));
        };
        if kernel.batched {
            return Err(unsupported(
                node,
                "its kernel depends on the instance",
                INSTANCES,
            ));
        }
        if let Some(shape) = attributes.ints("kernel_shape")
            && shape != [kh as i64, kw as i64]
        {
            return Err(ImportError::Malformed(format!(
                "{} has kernel_shape {shape:?} and a kernel of {kh} by {kw}",
                node_name(node)
            )));
        }
        undilated(
            node,
            &attributes,
            "export it with a larger kernel that has zeros in the gaps",
        )?;
        let stride = stride(node, attributes.ints("strides"))?;
        let pads = pads(node, &attributes, [h, w], [kh, kw], stride)?;
        let (image, [h, w]) = padded(node, &x.text, [h, w], pads)?;
        let Some(extent) = window([h, w], [kh, kw], stride) else {
            return Err(ImportError::Malformed(format!(
                "{} has a kernel of {kh} by {kw} on an image of {h} by {w}",
                node_name(node)
            )));
        };
        let step = match stride {
            1 => String::new(),
            s => format!(", stride = {s}"),
        };
        let groups = usize::try_from(attributes.int("group", 1)).unwrap_or(0);
        if groups == 0
            || Some(channels) != depth.checked_mul(groups)
            || !maps.is_multiple_of(groups)
        {
            return Err(ImportError::Malformed(format!(
                "{} has {channels} channels, a kernel of shape {:?} and {groups} groups",
                node_name(node),
                kernel.shape
            )));
        }
        if groups > MOST_GROUPS {
            return Err(unsupported(
                node,
                format!("it has {groups} groups"),
                format!("at most {MOST_GROUPS} are written out: use fewer, wider groups"),
            ));
        }
        let mut text = if groups == 1 {
            format!("conv2d({image}, {}{step})", kernel.text)
        } else {
            let image = self.local(node, "padded", &image, &x.text);
            let each = maps / groups;
            let parts: Vec<String> = (0..groups)
                .map(|g| {
                    format!(
                        "conv2d({image}[{}..{}], {}[{}..{}]{step})",
                        g * depth,
                        (g + 1) * depth,
                        kernel.text,
                        g * each,
                        (g + 1) * each
                    )
                })
                .collect();
            format!("concat({})", parts.join(", "))
        };
        if let Some(mut bias) = self.optional(node, 2)? {
            if bias.shape != [maps] {
                return Err(ImportError::Malformed(format!(
                    "{} has a bias of shape {:?} for {maps} maps",
                    node_name(node),
                    bias.shape
                )));
            }
            self.name_constant(&mut bias)?;
            let _ = write!(text, " + {}", reshaped(&bias.text, &[maps, 1, 1]));
        }
        self.bind(
            node,
            Made {
                text,
                shape: vec![maps, extent[0], extent[1]],
                batched: true,
                secret: x.secret || kernel.secret,
            },
        )
    }

    /// Gives a longer expression a name of its own, so that it can be used several times.
    pub(super) fn local(&mut self, node: &Node, suffix: &str, text: &str, unless: &str) -> String {
        if text == unless {
            return text.to_owned();
        }
        let base = node.output.first().map_or("", String::as_str);
        let name = self.names.value(&format!("{}_{suffix}", word(base)));
        self.statements.push(Statement {
            comment: None,
            name: name.clone(),
            range: None,
            text: text.to_owned(),
        });
        name
    }

    pub(super) fn average_pool(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(
            node,
            &[
                "auto_pad",
                "ceil_mode",
                "count_include_pad",
                "dilations",
                "kernel_shape",
                "pads",
                "strides",
            ],
        )?;
        attributes.must_be("ceil_mode", 0, "export it with ceil_mode=False")?;
        undilated(node, &attributes, "write it as a convolution")?;
        let (x, [channels, h, w]) = self.image(node)?;
        let kernel = match attributes.ints("kernel_shape") {
            Some(&[kh, kw]) if kh > 0 && kw > 0 && kh.max(kw) <= 1 << 20 => {
                [kh as usize, kw as usize]
            }
            other => {
                return Err(ImportError::Malformed(format!(
                    "{} has kernel_shape {other:?}",
                    node_name(node)
                )));
            }
        };
        let stride = stride(node, attributes.ints("strides"))?;
        let pads = pads(node, &attributes, [h, w], kernel, stride)?;
        let (image, inner) = padded(node, &x.text, [h, w], pads)?;
        let Some(extent) = window(inner, kernel, stride) else {
            return Err(ImportError::Malformed(format!(
                "{} has a window of {} by {} on an image of {} by {}",
                node_name(node),
                kernel[0],
                kernel[1],
                inner[0],
                inner[1]
            )));
        };
        let [kh, kw] = kernel;
        let whole = attributes.int("count_include_pad", 0) != 0 || pads == [0; 4];
        let step = match stride {
            1 => String::new(),
            s => format!(", stride = {s}"),
        };
        let text = if whole && kh == kw && stride == kh {
            format!("mean_pool({image}, {kh})")
        } else if whole {
            format!("conv2d({image}, ones([{kh}, {kw}]) / {}{step})", kh * kw)
        } else {
            // Each sum is divided by how many elements of the image itself its window has.
            let (counted, _) = padded_plane(&format!("ones([{h}, {w}])"), [h, w], pads);
            format!(
                "conv2d({image}, ones([{kh}, {kw}]){step}) / conv2d({counted}, ones([{kh}, {kw}]){step})"
            )
        };
        self.bind(
            node,
            Made {
                text,
                shape: vec![channels, extent[0], extent[1]],
                batched: true,
                secret: x.secret,
            },
        )
    }

    pub(super) fn global_average_pool(&mut self, node: &'a Node) -> Result<()> {
        Attributes::of(node, &[])?;
        let (x, [channels, h, w]) = self.image(node)?;
        let flat = reshaped(&x.text, &[channels, h * w]);
        let text = reshaped(&format!("mean({flat}, 1)"), &[channels, 1, 1]);
        self.bind(
            node,
            Made {
                text,
                shape: vec![channels, 1, 1],
                batched: true,
                secret: x.secret,
            },
        )
    }

    /// (x − mean) · scale / √(variance + ε) + bias, channel by channel, all but x known.
    pub(super) fn batch_normalization(&mut self, node: &'a Node) -> Result<()> {
        let attributes =
            Attributes::of(node, &["epsilon", "momentum", "training_mode", "spatial"])?;
        attributes.must_be(
            "training_mode",
            0,
            "export the model for inference (model.eval())",
        )?;
        attributes.must_be(
            "spatial",
            1,
            "export it for a version of the operators of 9 or more",
        )?;
        let x = self.tensor(node, 0)?;
        let channels = match (x.batched, x.shape.first()) {
            (true, Some(&c)) => c,
            _ => {
                return Err(unsupported(
                    node,
                    format!("its operand has {} axes", x.rank()),
                    "it takes instances, channels, and further axes",
                ));
            }
        };
        let mut stored = Vec::with_capacity(4);
        for at in 1..5 {
            let v = self.tensor(node, at)?;
            if v.shape != [channels] || v.secret {
                return Err(unsupported(
                    node,
                    format!(
                        "operand {} has shape {:?} or depends on the input",
                        at + 1,
                        v.shape
                    ),
                    "export the model for inference, so that its statistics are constants",
                ));
            }
            stored.push(v.text);
        }
        let [scale, bias, mean, variance] = stored.as_slice() else {
            return Err(ImportError::Malformed(format!(
                "{} lacks operands",
                node_name(node)
            )));
        };
        let epsilon = number(attributes.float("epsilon", 1e-5));
        let mut column = vec![channels];
        column.extend(std::iter::repeat_n(1, x.shape.len() - 1));
        let base = node.output.first().map_or("", String::as_str);
        let factor = self.names.value(&format!("{}_factor", word(base)));
        self.statements.push(Statement {
            comment: None,
            name: factor.clone(),
            range: None,
            text: format!("{scale} / sqrt({variance} + {epsilon})"),
        });
        let text = format!(
            "{} * {} + {}",
            x.text,
            reshaped(&factor, &column),
            reshaped(&format!("{bias} - {mean} * {factor}"), &column)
        );
        self.bind(node, like(&x, text))
    }
}

/// Refuses gaps between the elements of a window.
fn undilated(node: &Node, attributes: &Attributes<'_>, help: &str) -> Result<()> {
    match attributes.ints("dilations") {
        Some(d) if d.iter().any(|d| *d != 1) => {
            Err(unsupported(node, format!("its dilations are {d:?}"), help))
        }
        _ => Ok(()),
    }
}

fn stride(node: &Node, strides: Option<&[i64]>) -> Result<usize> {
    match strides {
        None => Ok(1),
        Some(&[a, b]) if a == b && a > 0 && a <= 1 << 20 => Ok(a as usize),
        Some(other) => Err(unsupported(
            node,
            format!("its strides are {other:?}"),
            "one stride goes for both axes: export it with equal strides",
        )),
    }
}

/// Rows above, columns left, rows below, columns right.
fn pads(
    node: &Node,
    attributes: &Attributes<'_>,
    image: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
) -> Result<[usize; 4]> {
    let given = match attributes.ints("pads") {
        None => [0; 4],
        Some(pads) => {
            let pads: Option<Vec<usize>> = pads
                .iter()
                .map(|&p| usize::try_from(p).ok().filter(|p| *p <= 1 << 20))
                .collect();
            match pads.as_deref() {
                Some(&[a, b, c, d]) => [a, b, c, d],
                _ => {
                    return Err(unsupported(
                        node,
                        "its pads are not four whole numbers",
                        "an image has two axes to pad",
                    ));
                }
            }
        }
    };
    let same = |later: bool| {
        let mut out = [0; 4];
        for i in 0..2 {
            let last = (image[i].div_ceil(stride) - 1) * stride + kernel[i];
            let total = last.saturating_sub(image[i]);
            let (less, more) = (total / 2, total - total / 2);
            (out[i], out[i + 2]) = if later { (less, more) } else { (more, less) };
        }
        out
    };
    match attributes.text("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" | "" => Ok(given),
        "VALID" => Ok([0; 4]),
        "SAME_UPPER" => Ok(same(true)),
        "SAME_LOWER" => Ok(same(false)),
        other => Err(unsupported(
            node,
            format!("its auto_pad is {}", shown(other)),
            "export it with explicit pads",
        )),
    }
}

/// An image [c, h, w] with zeros around it, and its new height and width.
fn padded(
    node: &Node,
    text: &str,
    [h, w]: [usize; 2],
    pads: [usize; 4],
) -> Result<(String, [usize; 2])> {
    let [above, left, below, right] = pads;
    let extents = [h + above + below, w + left + right];
    if pads == [0; 4] {
        return Ok((text.to_owned(), extents));
    }
    if extents[0].saturating_mul(extents[1]) > hecc_lang::Limits::default().elements {
        return Err(unsupported(node, "its pads are very large", "check them"));
    }
    Ok((
        format!("pad({text}, [[0, 0], [{above}, {below}], [{left}, {right}]])"),
        extents,
    ))
}

/// The same for [h, w].
fn padded_plane(text: &str, [h, w]: [usize; 2], pads: [usize; 4]) -> (String, [usize; 2]) {
    let [above, left, below, right] = pads;
    (
        format!("pad({text}, [[{above}, {below}], [{left}, {right}]])"),
        [h + above + below, w + left + right],
    )
}

/// How many places a window has, rounded down; none if it does not fit.
fn window(image: [usize; 2], kernel: [usize; 2], stride: usize) -> Option<[usize; 2]> {
    let along = |i: usize| Some(image[i].checked_sub(kernel[i])? / stride + 1);
    Some([along(0)?, along(1)?])
}
