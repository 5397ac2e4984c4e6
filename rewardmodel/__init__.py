"""Preference statistics and reward models: from what people ranked to a score. A library; it imports no Django.

    items = group_rows(rows)                                   # data: one item, the rankings of all people
    train, held_out = split_items(items, 0.15, seed=0)         # by prompt
    model = RewardModel.create("path/or/hub-name")             # model: LoRA and a head on any causal LM or encoder
    train, held_out = (encode_items(items, model.encode_together) for items in (train, held_out))
    fit = Fit(model, train, held_out, FitConfig())
    for progress in fit.run():
        print(progress.step, progress.metrics)
    fit.finish()                                               # the best evaluation's weights; mean 0, sd 1
    model.save(folder)
    RewardModel.load(folder).score([[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]])

`stats` needs NumPy alone and is what the web process imports; `tokens` is the one chat encoder of all trainers.
"""
