from detbalance.samplers import AllSampler


def test_all_but_the_ignored(candidates):
    c = candidates()
    assert AllSampler()(c).tolist() == [i for i, m in enumerate(c.matched.tolist()) if m != -2]


def test_sparse(sparse):
    assert len(AllSampler()(sparse)) == int((sparse.matched != -2).sum())
