//! A minimum vertex cut of a directed acyclic graph: the fewest vertices that every path from a source to
//! a sink meets.
//!
//! Each vertex becomes an edge of capacity 1 from its entry to its exit, and what flows is found by
//! blocking flows on layers (Dinic, Soviet Math. Doklady 11, 1970; Even and Tarjan, SIAM J. Comput. 4,
//! 1975): on unit vertices at most √V rounds of E steps. Of all minimum cuts the one nearest to the sinks is taken.

/// A graph whose sources and sinks may be cut themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    /// By vertex, for its entry and its exit: numbers of edges.
    out: Vec<Vec<u32>>,
    /// Edge `e ^ 1` is the reverse of `e`.
    to: Vec<u32>,
    room: Vec<u32>,
}

const SOURCE: usize = 0;
const SINK: usize = 1;
const MANY: u32 = u32::MAX / 2;

impl Cut {
    /// A graph of so many vertices without edges.
    pub(crate) fn new(vertices: usize) -> Cut {
        let mut cut = Cut {
            out: vec![Vec::new(); 2 * vertices + 2],
            ..Cut::default()
        };
        for v in 0..vertices {
            cut.connect(entry(v), exit(v), 1);
        }
        cut
    }

    /// Paths begin here.
    pub(crate) fn source(&mut self, v: usize) {
        self.connect(SOURCE, entry(v), MANY);
    }

    /// Paths end here.
    pub(crate) fn sink(&mut self, v: usize) {
        self.connect(exit(v), SINK, MANY);
    }

    /// Paths go from `a` to `b`.
    pub(crate) fn edge(&mut self, a: usize, b: usize) {
        self.connect(exit(a), entry(b), MANY);
    }

    fn connect(&mut self, a: usize, b: usize, room: u32) {
        for (from, to, room) in [(a, b, room), (b, a, 0)] {
            self.out[from].push(self.to.len() as u32);
            self.to.push(to as u32);
            self.room.push(room);
        }
    }

    /// By vertex: whether it is cut.
    pub(crate) fn minimum(mut self) -> Vec<bool> {
        let n = self.out.len();
        let mut layer = vec![u32::MAX; n];
        while self.layers(&mut layer) {
            let mut next = vec![0usize; n];
            while self.augment(&layer, &mut next) {}
        }
        // Who can still reach the sink is on its side.
        let mut beyond = vec![false; n];
        beyond[SINK] = true;
        let mut stack = vec![SINK];
        while let Some(at) = stack.pop() {
            for &e in &self.out[at] {
                let from = self.to[e as usize] as usize;
                if self.room[(e ^ 1) as usize] > 0 && !beyond[from] {
                    beyond[from] = true;
                    stack.push(from);
                }
            }
        }
        (0..(n - 2) / 2)
            .map(|v| !beyond[entry(v)] && beyond[exit(v)])
            .collect()
    }

    /// Distances from the source; whether the sink has one.
    fn layers(&self, layer: &mut [u32]) -> bool {
        layer.fill(u32::MAX);
        layer[SOURCE] = 0;
        let mut queue = vec![SOURCE];
        let mut at = 0;
        while let Some(&v) = queue.get(at) {
            at += 1;
            for &e in &self.out[v] {
                let to = self.to[e as usize] as usize;
                if self.room[e as usize] > 0 && layer[to] == u32::MAX {
                    layer[to] = layer[v] + 1;
                    queue.push(to);
                }
            }
        }
        layer[SINK] != u32::MAX
    }

    /// Sends one unit along the layers, if there is a way.
    fn augment(&mut self, layer: &[u32], next: &mut [usize]) -> bool {
        let mut path: Vec<u32> = Vec::new();
        let mut v = SOURCE;
        while v != SINK {
            let found = self.out[v].get(next[v]).copied();
            match found {
                Some(e) => {
                    let to = self.to[e as usize] as usize;
                    if self.room[e as usize] > 0 && layer[to] == layer[v].saturating_add(1) {
                        path.push(e);
                        v = to;
                    } else {
                        next[v] += 1;
                    }
                }
                None => {
                    // A dead end: back, and never here again.
                    let Some(e) = path.pop() else { return false };
                    v = self.to[(e ^ 1) as usize] as usize;
                    next[v] += 1;
                }
            }
        }
        for e in path {
            self.room[e as usize] -= 1;
            self.room[(e ^ 1) as usize] += 1;
        }
        true
    }
}

fn entry(v: usize) -> usize {
    2 + 2 * v
}

fn exit(v: usize) -> usize {
    3 + 2 * v
}

#[cfg(test)]
mod tests {
    use super::*;
    use hecc_ir::random::SplitMix64;

    /// Whether a path from a source to a sink avoids the cut.
    fn leaks(edges: &[(usize, usize)], sources: &[usize], sinks: &[usize], cut: u32) -> bool {
        let mut reached = 0u32;
        for &s in sources {
            reached |= 1 << s;
        }
        // edges ascend
        for v in 0..32 {
            if reached >> v & 1 == 1 && cut >> v & 1 == 0 {
                for (_, to) in edges.iter().filter(|(from, _)| *from == v) {
                    reached |= 1 << to;
                }
            }
        }
        sinks
            .iter()
            .any(|s| reached >> s & 1 == 1 && cut >> s & 1 == 0)
    }

    #[test]
    fn no_smaller_set_cuts_random_graphs() {
        for seed in 0..400 {
            let mut random = SplitMix64::new(seed);
            let n = 3 + random.below(8);
            let mut edges = Vec::new();
            for b in 1..n {
                for _ in 0..random.below(4) {
                    edges.push((random.below(b), b));
                }
            }
            let sources: Vec<usize> = (0..n).filter(|_| random.one_in(3)).collect();
            let sinks: Vec<usize> = (0..n).filter(|_| random.one_in(3)).collect();
            let mut graph = Cut::new(n);
            for &s in &sources {
                graph.source(s);
            }
            for &s in &sinks {
                graph.sink(s);
            }
            for &(a, b) in &edges {
                graph.edge(a, b);
            }
            let cut = graph.minimum();
            let mask = (0..n).filter(|v| cut[*v]).fold(0u32, |m, v| m | 1 << v);
            assert!(
                !leaks(&edges, &sources, &sinks, mask),
                "seed {seed}: it leaks"
            );
            let least = (0..1u32 << n)
                .filter(|m| !leaks(&edges, &sources, &sinks, *m))
                .map(u32::count_ones)
                .min();
            assert_eq!(Some(mask.count_ones()), least, "seed {seed}");
        }
    }
}
