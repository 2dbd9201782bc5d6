# The gateway and the workers: nothing but Python, the locked dependencies and keylane, run by nobody in particular.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv /build && python -m venv /venv
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN /build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.lock \
 && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.lock
COPY pyproject.toml README.md ./
COPY schemas schemas
COPY streams streams
COPY consumers consumers
RUN /build/bin/hatchling build -t wheel \
 && /venv/bin/pip install --no-cache-dir --no-index --no-deps dist/*.whl \
 && /venv/bin/pip uninstall --yes pip

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin keylane
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["keylane"]
CMD ["gateway"]
